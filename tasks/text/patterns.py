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
LONGEST = 1000
"""Characters of a pattern, and of a string that is drawn from one."""
MOST_GROUPS = 50
ALPHABET = string.ascii_letters + string.digits
REPEATS = ("MAX_REPEAT", "MIN_REPEAT")
_CLASSES = {"DIGIT": string.digits, "WORD": ALPHABET + "_", "SPACE": " "}
_parse = importlib.import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse").parse


def from_pattern(pattern: str) -> Callable[[random.Random], str]:
    """A function that draws a string which the pattern matches in full.

    Raises:
        ValueError: not a regular expression, or one with parts that are not drawn from (look-around, references).
    """
    if len(pattern) > LONGEST:
        raise ValueError(f"has {len(pattern):,} characters; at most {LONGEST:,} are taken")
    if (groups := pattern.count("(")) > MOST_GROUPS:
        raise ValueError(f"has {groups} groups; at most {MOST_GROUPS} are taken")
    try:
        parsed = _parse(pattern)
        items = list(parsed)
    except (re.error, OverflowError) as error:
        raise ValueError(f"not a regular expression: {error}") from error
    if parsed.state.flags & re.IGNORECASE:
        raise ValueError("cannot be drawn from: (?i) is not supported")
    # Anchors hold at the ends only. Everything else that is drawn from matches by the way it is drawn; to try it by
    # matching would take for ever with some patterns.
    if items and _is_anchor(items[0], "AT_BEGINNING"):
        items = items[1:]
    if items and _is_anchor(items[-1], "AT_END"):
        items = items[:-1]
    if (longest := sum(_longest(str(code), argument) for code, argument in items)) > LONGEST:
        raise ValueError(f"draws strings of up to {longest:.3g} characters; at most {LONGEST:,} are taken")
    return _sequence(items)


def _is_anchor(item: Any, kind: str) -> bool:
    return str(item[0]) == "AT" and str(item[1]).startswith(kind)


def _longest(code: str, argument: Any) -> int:
    """The most characters that one part can draw."""
    if code in REPEATS:
        least, most, body = argument
        return _most(least, most) * sum(_longest(str(code), argument) for code, argument in body)
    if code == "SUBPATTERN":
        return sum(_longest(str(code), argument) for code, argument in argument[-1])
    if code == "BRANCH":
        return max(sum(_longest(str(code), argument) for code, argument in branch) for branch in argument[1])
    return 1


def _most(least: Any, most: Any) -> int:
    """The most repeats, where the pattern sets no limit as well."""
    return max(int(least), MOST_REPEATS) if str(most) == "MAXREPEAT" else int(most)


def _sequence(items: list[Any]) -> Callable[[random.Random], str]:
    parts = [_part(str(code), argument) for code, argument in items]
    return lambda rng: "".join(part(rng) for part in parts)


def _part(code: str, argument: Any) -> Callable[[random.Random], str]:
    if code == "LITERAL":
        letter = _whole_characters(chr(argument))
        return lambda _: letter
    if code in ("ANY", "IN", "NOT_LITERAL"):
        choices = _choices(code, argument)
        return lambda rng: rng.choice(choices)
    if code in REPEATS:
        least, most, one = int(argument[0]), _most(*argument[:2]), _sequence(list(argument[2]))
        return lambda rng: "".join(one(rng) for _ in range(rng.randint(least, most)))
    if code == "SUBPATTERN" and not argument[1]:  # no flags of its own
        return _sequence(list(argument[-1]))
    if code == "BRANCH":
        branches = [_sequence(list(branch)) for branch in argument[1]]
        return lambda rng: rng.choice(branches)(rng)
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
    return _whole_characters(found)


def _whole_characters(text: str) -> str:
    """The text without surrogates, which are halves of characters and no text."""
    if whole := "".join(letter for letter in text if not "\ud800" <= letter <= "\udfff"):
        return whole
    raise ValueError("cannot be drawn from: half a character (a lone surrogate)")
