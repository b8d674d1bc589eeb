"""The Gated DeltaNet-2 model family."""
