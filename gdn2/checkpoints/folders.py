"""The folder that holds a checkpoint's files, where a path names one above it."""

from __future__ import annotations

from pathlib import Path

from basis.errors import FileError
from basis.hub import snapshot_folder
from gdn2.checkpoints.errors import CheckpointError


def checkpoint_folder(path: Path) -> Path:
    """Find the snapshot inside a repository's folder of a hub cache; any other path is its own.

    Raises:
        CheckpointError: it is not clear which snapshot is meant.
    """
    try:
        return snapshot_folder(path)
    except FileError as error:
        raise CheckpointError(str(error)) from error
