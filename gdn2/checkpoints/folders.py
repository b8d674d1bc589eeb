"""The folder that holds a checkpoint's files, where a path names one above it."""

from __future__ import annotations

from pathlib import Path

from gdn2.checkpoints.errors import CheckpointError, listed

SNAPSHOTS = "snapshots"
REPOSITORY = "models--"  # how a hub cache begins the name of a model's folder


def checkpoint_folder(path: Path) -> Path:
    """Find the snapshot inside a repository's folder of a hub cache; any other path is its own.

    The snapshot that `refs/main` names is taken, or else the only one.

    Raises:
        CheckpointError: there are several snapshots and no `refs/main`, or none at all.
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
    raise CheckpointError(
        f"{inside}: it is not clear which snapshot is meant (there are: {names}); give the folder of one"
    )


def checkpoint_name(path: Path) -> str:
    """Name a checkpoint after its folder or file; a snapshot of a hub cache after its repository."""
    whole = path.resolve()
    repository = whole.parent.parent.name if whole.parent.name == SNAPSHOTS else whole.name
    if repository.startswith(REPOSITORY):
        return repository.split("--")[-1]
    return whole.name if whole.is_dir() else whole.stem
