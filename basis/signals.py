"""Signals of the system as exceptions, so that what a process has started ends with it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

TOLD = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def ends_by_interrupt() -> Iterator[None]:
    """Inside, being told to end is an interrupt: by SIGTERM, as `kill` and managers of jobs send it, or by SIGHUP.

    SIGHUP is what a terminal sends that is closed; under nohup it stays ignored. Python would end at once otherwise,
    without clearing up. Threads beside the main one hear no signals; there nothing changes.

    Raises:
        KeyboardInterrupt: the process was told to end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with as_before():
        for told in TOLD:
            if told == signal.SIGTERM or signal.getsignal(told) is not signal.SIG_IGN:
                signal.signal(told, _interrupt)
        yield


@contextlib.contextmanager
def as_before() -> Iterator[None]:
    """Undo at the end what a library inside makes of being told to end, as Ray does: it aborts the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {told: signal.getsignal(told) for told in TOLD}
    try:
        yield
    finally:
        for told, handler in before.items():
            signal.signal(told, signal.SIG_DFL if handler is None else handler)


def _interrupt(*_: object) -> None:
    # A terminal that is closed says so twice, its shell once more: that would interrupt the clearing up.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raise KeyboardInterrupt
