"""States that may be overwritten: decoding in place, for who owns the state and does not need the one before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_overwritten: ContextVar[bool] = ContextVar("states may be overwritten", default=False)


@contextmanager
def overwriting_states() -> Iterator[None]:
    """Inside, the operator may write a final state where the initial one was, and returns that tensor. Kernels for
    short inputs do, which halves the memory of a decoding step; everything else returns a new state as ever."""
    token = _overwritten.set(True)
    try:
        yield
    finally:
        _overwritten.reset(token)


def may_overwrite() -> bool:
    """Whether a state may be overwritten now."""
    return _overwritten.get()
