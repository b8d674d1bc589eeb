"""Signals of the system as exceptions, so that what a process has started ends with it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def ends_by_interrupt() -> Iterator[None]:
    """Inside, being told to end (SIGTERM, as `kill` and managers of jobs send it) is an interrupt.

    Python would end at once otherwise, and processes that it has started would go on without it. Threads beside the
    main one hear no signals; there nothing changes.

    Raises:
        KeyboardInterrupt: the process was told to end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
