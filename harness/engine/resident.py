"""The most memory that this process has had at once, by its own account.

The `ru_maxrss` of getrusage is not that: Linux hands it on through exec, so a small program that a large one starts has
the large one's.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
_before_resets = 0


def peak_bytes() -> int:
    """Return the most resident memory of this process since its program began, in bytes.

    What was reset on the way counts as well.
    """
    own = peak_bytes_since_reset()
    if own is not None:
        return max(own, _before_resets)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # where there is no /proc
    return most if sys.platform == "darwin" else most * 1024


def peak_bytes_since_reset() -> int | None:
    """Return the most since `reset`, or since the program began, in bytes; None where the system does not say."""
    try:
        lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    (peak,) = [line for line in lines if line.startswith("VmHWM:")] or [""]
    return int(peak.split()[1]) * 1024 if peak else None


def begin_anew() -> None:
    """Count `peak_bytes` from now on, as if the program began; from before, where the system does not let us."""
    global _before_resets
    reset()
    own = peak_bytes_since_reset()
    _before_resets = 0 if own is not None else _before_resets


def reset() -> None:
    """Measure `peak_bytes_since_reset` from now on; from before, where the system does not let us."""
    global _before_resets
    _before_resets = max(_before_resets, peak_bytes_since_reset() or 0)
    try:
        CLEAR_REFS.write_text("5", encoding="ascii")
    except OSError:
        return
