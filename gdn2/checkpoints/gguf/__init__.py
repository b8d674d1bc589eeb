"""GGUF files: metadata and tensors (`files`), the tokenizer inside (`tokenizer`), and the checkpoint (`source`)."""

from gdn2.checkpoints.gguf.source import SUFFIX, GGUFSource

__all__ = ["SUFFIX", "GGUFSource"]
