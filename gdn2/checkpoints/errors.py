"""What is wrong with a checkpoint, in a line."""

from __future__ import annotations

from basis.errors import UserError


class CheckpointError(UserError, ValueError):
    """A checkpoint that cannot be used; the message names the file and the field or tensor."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
