"""Permission to overwrite states: decoding in place, for callers who do not need the state from before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_overwritten: ContextVar[bool] = ContextVar("states may be overwritten", default=False)


@contextmanager
def overwriting_states() -> Iterator[None]:
    """Inside, the operator may write the final state into the memory of the initial one, and return that tensor.

    The Triton kernel for short inputs does so, which halves the memory of a decoding step. Everything else still
    returns a new state.
    """
    token = _overwritten.set(True)
    try:
        yield
    finally:
        _overwritten.reset(token)


def may_overwrite() -> bool:
    """Whether the caller allows that states are overwritten."""
    return _overwritten.get()
