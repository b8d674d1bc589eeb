"""Arguments as they are typed: each refused in one line, before anything heavy is imported."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence

from harness.errors import UserError


def check_texts(arguments: Sequence[str]) -> None:
    """Refuse empty arguments and those that are no text.

    Args:
        arguments: as typed.

    Raises:
        UserError: names the flag in front of it.
    """
    before = ""
    for argument in arguments:
        name, is_assigned, value = argument.partition("=")
        is_flag = argument.startswith("--")
        text = value if is_flag and is_assigned else argument
        if not text.strip():
            given = name if is_flag else before
            raise UserError(f"{given or 'an argument'}: must not be empty")
        if any(0xD800 <= ord(character) < 0xE000 or character == "\0" for character in text):
            given = name if is_flag and is_assigned else before
            raise UserError(f"{given or 'an argument'}: {text!r} is no valid UTF-8 text")
        before = argument if is_flag and not is_assigned else ""


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """What turns the text of a flag into a whole number within bounds."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"must be a whole number, got {text[:50]!r}") from error
        if value < least or (most is not None and value > most):
            wanted = f"at least {least}" if value < least else f"at most {most}"
            raise argparse.ArgumentTypeError(f"must be {wanted}, got {text[:50]}")
        return value

    return parse


def positive(text: str) -> float:
    """What turns the text of a flag into a number above 0 that is finite."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text[:50]!r}")
    return value
