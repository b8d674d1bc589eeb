"""Strings that match a regular expression, drawn at random: literals, classes, groups, branches and repeats."""

from __future__ import annotations

import importlib
import random
import re
import string
import sys
from collections.abc import Callable
from typing import Any

MOST_REPEATS = 8
"""The most repeats of `*` and `+`, which set no limit themselves."""
ALPHABET = string.ascii_letters + string.digits
_CLASSES = {"DIGIT": string.digits, "WORD": ALPHABET + "_", "SPACE": " "}
_parse = importlib.import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse").parse


def from_pattern(pattern: str) -> Callable[[random.Random], str]:
    """A function that draws a string which the pattern matches in full.

    Raises:
        ValueError: not a regular expression, or one with parts that are not drawn from (look-around, references).
    """
    try:
        parsed = list(_parse(pattern))
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    draw = _sequence(parsed)
    compiled = re.compile(pattern)
    if not compiled.fullmatch(draw(random.Random(0))):
        raise ValueError("cannot be drawn from; use literals, classes, groups, | and repeats only")
    return draw


def _sequence(items: list[Any]) -> Callable[[random.Random], str]:
    parts = [_part(str(code), argument) for code, argument in items]
    return lambda rng: "".join(part(rng) for part in parts)


def _part(code: str, argument: Any) -> Callable[[random.Random], str]:
    if code == "LITERAL":
        return lambda _: chr(argument)
    if code in ("ANY", "IN", "NOT_LITERAL"):
        choices = _choices(code, argument)
        return lambda rng: rng.choice(choices)
    if code in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least, most, body = argument
        most = min(int(most), max(int(least), MOST_REPEATS)) if str(most) == "MAXREPEAT" else int(most)
        one = _sequence(list(body))
        return lambda rng: "".join(one(rng) for _ in range(rng.randint(least, most)))
    if code == "SUBPATTERN":
        return _sequence(list(argument[-1]))
    if code == "BRANCH":
        branches = [_sequence(list(branch)) for branch in argument[1]]
        return lambda rng: rng.choice(branches)(rng)
    if code == "AT":
        return lambda _: ""
    raise ValueError(f"cannot be drawn from: {code.lower().replace('_', ' ')} is not supported")


def _choices(code: str, argument: Any) -> str:
    """The characters that one place may hold."""
    if code == "ANY":
        return ALPHABET
    if code == "NOT_LITERAL":
        return ALPHABET.replace(chr(argument), "")
    found = ""
    negated = False
    for kind, value in argument:
        name = str(kind)
        if name == "NEGATE":
            negated = True
        elif name == "LITERAL":
            found += chr(value)
        elif name == "RANGE":
            found += "".join(map(chr, range(value[0], value[1] + 1)))
        elif name == "CATEGORY" and (known := _CLASSES.get(str(value).removeprefix("CATEGORY_"))):
            found += known
        else:
            raise ValueError(f"cannot be drawn from: the class {str(value).lower()} is not supported")
    found = "".join(character for character in ALPHABET if character not in found) if negated else found
    if not found:
        raise ValueError("cannot be drawn from: a class without characters")
    return found
