"""SHA-256 of what makes a checkpoint: its config and weights, its tokenizer, any files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from gdn2.checkpoints.folders import checkpoint_folder
from gdn2.checkpoints.tensors import weight_files

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)


def fingerprint(path: Path) -> str:
    """Hash the config and the weights (SHA-256): what "the same checkpoint" means in a record.

    Raises:
        CheckpointError: a folder without weights.
    """
    path = checkpoint_folder(path)
    return hash_files([path / "config.json", *(sorted(path.glob("*.safetensors")) or weight_files(path))])


def tokenizer_fingerprint(path: Path, others: Iterable[str] = ()) -> str:
    """SHA-256 of the tokenizer's files.

    Args:
        path: its folder.
        others: names of further files that its class reads, in any order.

    Returns:
        The hash in hex, over those of the files that are there.
    """
    path = checkpoint_folder(path)
    names = [*TOKENIZER_FILES, *sorted(set(others) - set(TOKENIZER_FILES))]
    return hash_files([path / name for name in names if (path / name).is_file()])


def hash_files(files: Iterable[Path]) -> str:
    """SHA-256 over names and contents, in the given order."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
