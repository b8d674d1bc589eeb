"""Folders of a hub cache: a repository holds its snapshots, and a checkpoint is one of these."""

from __future__ import annotations

from pathlib import Path

from basis.errors import FileError
from basis.names import listed

SNAPSHOTS = "snapshots"
REPOSITORY = "models--"  # how a hub cache begins the name of a model's folder


def snapshot_folder(path: Path) -> Path:
    """Find the snapshot inside a repository's folder of a hub cache.

    Args:
        path: any path.

    Returns:
        The snapshot that `refs/main` names, or else the only one; `path` itself if it is no such folder.

    Raises:
        FileError: there are several snapshots and no `refs/main`, or none at all.
    """
    inside = path / SNAPSHOTS
    if not path.is_dir() or not inside.is_dir() or (path / "config.json").exists():
        return path
    found = sorted(folder for folder in inside.iterdir() if folder.is_dir())
    main = path / "refs" / "main"
    if main.is_file():
        commit = main.read_text(encoding="utf-8", errors="replace").strip()
        if named := [folder for folder in found if folder.name == commit]:
            return named[0]
    if len(found) == 1:
        return found[0]
    names = listed([folder.name for folder in found], 3) or "none"
    raise FileError(f"{inside}: it is not clear which snapshot is meant (there are: {names}); give the folder of one")


def checkpoint_name(path: Path) -> str:
    """Name a checkpoint after its folder or file; a snapshot of a hub cache after its repository."""
    whole = path.resolve()
    repository = whole.parent.parent.name if whole.parent.name == SNAPSHOTS else whole.name
    if repository.startswith(REPOSITORY):
        return repository.split("--")[-1]
    return whole.name if whole.is_dir() else path.stem
