"""Data on this machine: fetching it, its manifest, and the proof that it suffices without a network."""
