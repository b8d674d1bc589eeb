"""Resident memory that goes back to the system at once, which memory of an allocator may not."""

from __future__ import annotations

import mmap


def ballast(size: int) -> mmap.mmap:
    """That many bytes, resident until `close()`."""
    taken = mmap.mmap(-1, size)
    for page in range(0, size, mmap.PAGESIZE):
        taken[page] = 1
    return taken
