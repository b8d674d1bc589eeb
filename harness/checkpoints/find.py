"""Checkpoints and tokenizers by what a user types: a path, or a name."""

from __future__ import annotations

from pathlib import Path

from basis.hub import snapshot_folder
from harness.errors import UserError
from harness.paths import ZOO
from tasks import data

WEIGHT_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".gguf")


def find_checkpoint(name: str) -> Path:
    """Find a folder, a file with weights, or a checkpoint of the zoo by its name.

    A folder in which nothing of a checkpoint is does not hide a checkpoint of the zoo. Where both could be meant, the
    folder is taken, and `which_was_taken` says so.

    Args:
        name: as a user types it. A repository's folder in a hub cache means its snapshot.

    Raises:
        UserError: neither; lists the zoo.
    """
    if not name.strip():
        raise UserError("checkpoint '': no name at all; give a folder, a file with weights, or a name of the zoo")
    path = Path(name).expanduser()
    in_zoo = _in_zoo(name)
    if (path.is_dir() and not (in_zoo and not _holds_checkpoint(path))) or _is_weight_file(path):
        return snapshot_folder(path)
    if in_zoo:
        return ZOO / name
    zoo = ", ".join(sorted(folder.parent.name for folder in ZOO.glob("*/config.json"))) or "empty"
    raise UserError(f"checkpoint {name!r}: no such folder, and not in the zoo ({zoo}); give a folder with config.json")


def which_was_taken(name: str) -> str | None:
    """Say which checkpoint was taken where a name means a local path and one of the zoo; None if it is clear."""
    path = Path(name).expanduser()
    if not path.exists() or not _in_zoo(name) or path.resolve() == (ZOO / name).resolve():
        return None
    if find_checkpoint(name) == ZOO / name:
        return f"{name}: the checkpoint of the zoo; the folder {path.resolve()} holds none"
    return f"{name}: {path.resolve()}, not the checkpoint of the zoo, which is {ZOO / name}"


def _in_zoo(name: str) -> bool:
    return "/" not in name.rstrip("/") and (ZOO / name / "config.json").is_file()


def _is_weight_file(path: Path) -> bool:
    return path.is_file() and path.suffix in WEIGHT_SUFFIXES


def _holds_checkpoint(folder: Path) -> bool:
    snapshots = (folder / "snapshots").is_dir()
    return snapshots or (folder / "config.json").exists() or any(_is_weight_file(file) for file in folder.iterdir())


def find_tokenizer(name: str) -> str:
    """A folder, a checkpoint of the zoo, a staged tokenizer, or a name that is left to the hub."""
    if not Path(name).expanduser().is_dir() and (ZOO / name / "tokenizer.json").is_file():
        return str(ZOO / name)
    staged = data.tokenizer_dir(name)
    return str(staged) if not Path(name).expanduser().is_dir() and staged.is_dir() else name
