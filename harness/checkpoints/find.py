"""Checkpoints and tokenizers by what a user types: a path, or a name."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UserError
from harness.paths import ZOO
from tasks import data

WEIGHT_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")


def find_checkpoint(name: str) -> Path:
    """A folder, a file with weights, or the name of a checkpoint of the zoo.

    Raises:
        UserError: neither; lists the zoo.
    """
    path = Path(name).expanduser()
    if path.is_dir() or (path.is_file() and path.suffix in WEIGHT_SUFFIXES):
        return path
    if (ZOO / name / "config.json").is_file():
        return ZOO / name
    zoo = ", ".join(sorted(folder.parent.name for folder in ZOO.glob("*/config.json"))) or "empty"
    raise UserError(f"checkpoint {name!r}: no such folder, and not in the zoo ({zoo}); give a folder with config.json")


def find_tokenizer(name: str) -> str:
    """A folder, a checkpoint of the zoo, a staged tokenizer, or a name that is left to the hub."""
    if not Path(name).expanduser().is_dir() and (ZOO / name / "tokenizer.json").is_file():
        return str(ZOO / name)
    staged = data.tokenizer_dir(name)
    return str(staged) if not Path(name).expanduser().is_dir() and staged.is_dir() else name
