"""Permission to overwrite states: decoding in place, for callers who do not need the state from before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_overwritten: ContextVar[str] = ContextVar("what of a state may be overwritten", default="")


@contextmanager
def overwriting_states() -> Iterator[None]:
    """Inside, forwards may write the new state into the memory of the one they get, and return those tensors.

    The Triton kernel for short inputs does so, which halves the memory of a decoding step, and so do a step's kernel of
    the short convolution and attention, which then writes the slots of the new tokens and nothing else. Everything else
    still returns new tensors.
    """
    with _overwriting("everything"):
        yield


@contextmanager
def overwriting_slots() -> Iterator[None]:
    """As `overwriting_states`, but only attention may do so.

    A step of one token can then be repeated from the state it got, if it failed on the way: it writes slots that no
    token from there on attends to.
    """
    with _overwriting("slots"):
        yield


def may_overwrite() -> bool:
    """Whether the caller allows that states are overwritten."""
    return _overwritten.get() == "everything"


def may_overwrite_slots() -> bool:
    """Whether the caller allows that the slots of attention's states are overwritten."""
    return _overwritten.get() != ""


@contextmanager
def _overwriting(what: str) -> Iterator[None]:
    token = _overwritten.set(what)
    try:
        yield
    finally:
        _overwritten.reset(token)
