"""Folders in which one process works at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from basis.errors import UserError, reason


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[bool]:
    """Work in a folder that no other process works in; a process that dies, in whatever way, gives it free.

    Nothing is written: it is the folder itself that is locked. On a disk that knows no locks of folders, as network
    disks may not, nobody is kept out.

    Args:
        folder: made if it is not there, with those above it.

    Yields:
        Whether others are kept out.

    Raises:
        UserError: another process is at work in it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: cannot be used as a folder ({reason(error)}); choose another one") from error
    try:
        yield _lock(held, folder)
    finally:
        os.close(held)


def _lock(held: int, folder: Path) -> bool:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{folder}: another process is at work in it; wait for it, or end it") from None
    except OSError:
        return False
    return True
