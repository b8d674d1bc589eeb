"""Memory that a training step frees and the next one takes again."""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
MOST_KEPT = (1 << 31) - 1
LARGEST = (1 << 30, 1 << 25)  # bytes of a block that does not come from the system itself; older glibcs take the second
VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Have this process keep the memory that it frees, where the C library is glibc.

    Otherwise the tensors of each step on a CPU are given back to the system and come again page by page, each of which
    the system clears first. What a process keeps is at most what it once had. Nothing is changed where the environment
    says how memory is to be kept.

    Returns:
        Whether it does.
    """
    if any(name in os.environ for name in VARIABLES):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library, or another system
        return False
    return any(mallopt(M_MMAP_THRESHOLD, size) for size in LARGEST) and bool(mallopt(M_TRIM_THRESHOLD, MOST_KEPT))
