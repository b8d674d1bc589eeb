"""Names in messages: listed, and those that were meant where somebody mistyped one, in one wording for all."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from basis.errors import shown

CUTOFF = 0.7
"""How alike two names are at least, from 0 to 1 (`difflib.SequenceMatcher.ratio`), for one to be meant by the other."""
SHORTEST_PART = 3
"""Characters of a part of a name, at least, by which the whole is found: `warmup` is a part of `warmup_steps`."""
MOST_NEAR = 3
MOST_LISTED = 20
LONGEST = 200  # characters that are compared


def near_names(name: object, known: Iterable[object]) -> list[str]:
    """The known names that somebody may have meant, the likeliest first.

    Args:
        name: as it was typed; what a YAML file has need not be text.
        known: the names that there are.

    Returns:
        At most three: those that differ by the case of letters or by `_`, `-` and spaces alone, else those that look
        alike, then those of which the typed one is a part. None for a name that looks like none, and never the
        typed one itself.
    """
    typed = _folded(name)
    if not typed:
        return []
    folded: dict[str, list[str]] = {}
    for one in dict.fromkeys(map(str, known)):
        if one == str(name):
            continue
        folded.setdefault(_folded(one), []).append(one)
    if typed in folded:
        return folded[typed][:MOST_NEAR]
    ratios = {one: _ratio(one, typed) for one in folded}
    alike = sorted((one for one in folded if ratios[one] >= CUTOFF), key=lambda one: -ratios[one])
    whole = [one for one in folded if len(typed) >= SHORTEST_PART and typed in one]
    whole.sort(key=lambda one: not one.startswith(typed))
    return [one for key in dict.fromkeys([*alike, *whole]) for one in folded[key]][:MOST_NEAR]


def or_near(name: object, known: Iterable[object]) -> str:
    """What a message that has all names ends with: `; did you mean 'x'?`, or nothing where none looks like it.

    Args:
        name: as it was typed.
        known: the names that there are.
    """
    near = near_names(name, known)
    return f"; {did_you_mean(near)}" if near else ""


def must_be_one_of(known: Iterable[object], got: object, said: str | None = None) -> str:
    """What a message says of a value that is none of a few: `must be one of a, b, got 'c'; did you mean 'b'?`.

    Args:
        known: the values that there are, all of which are listed.
        got: the value.
        said: how the message has it; None: as `shown`.
    """
    names = list(map(str, known))
    return f"must be one of {', '.join(names)}, got {said or shown(got)}{or_near(got, names)}"


def way_out(name: object, known: Iterable[object], *, also: Iterable[object] = (), listed_by: str = "") -> str:
    """What a message of an unknown name ends with: `did you mean 'x'?`, or all names where none looks like it.

    Args:
        name: as it was typed.
        known: the names that there are; the first twenty are listed.
        also: further names that are meant where none of the others looks like it, such as aliases; these are not
            listed.
        listed_by: the command that lists all names; it is said in the place of a list that would be cut.
    """
    names = list(dict.fromkeys(map(str, known)))
    command = f"`{listed_by}` lists all" if listed_by and len(names) > MOST_LISTED else ""
    if near := near_names(name, names) or near_names(name, also):
        return f"{did_you_mean(near)} {command}".rstrip()
    return command or there_are(names)


def did_you_mean(near: Iterable[str]) -> str:
    """The question that a message of an unknown name ends with, about names that look like it, the likeliest first."""
    return f"did you mean {' or '.join(map(repr, near))}?"


def there_are(known: Iterable[object]) -> str:
    """Names as a message lists them, in quotes, since they may have commas: `there are 'a', 'b' and 3 more`.

    Args:
        known: of which the first twenty are listed.
    """
    names = list(dict.fromkeys(map(str, known)))
    start = "there is only" if len(names) == 1 else "there are"
    return f"{start} {listed(list(map(repr, names)), MOST_LISTED) or 'none'}"


def listed(texts: Sequence[str], most: int, between: str = ", ") -> str:
    """A list in a message: `a, b, c and 5 more`.

    Args:
        texts: of which the first ones are said.
        most: how many of them.
        between: what separates them.
    """
    rest = len(texts) - most
    return between.join(texts[:most]) + (f" and {rest} more" if rest > 0 else "")


def _ratio(one: str, other: str) -> float:
    """How alike two texts are; those of the same letters are alike, since `kad` is `kda` with two of them swapped."""
    if 2 * min(len(one), len(other)) < CUTOFF * (len(one) + len(other)):
        return 0.0  # what it is at most is below the cutoff
    ratio = difflib.SequenceMatcher(None, one, other).ratio()
    return max(ratio, CUTOFF) if sorted(one) == sorted(other) else ratio


def _folded(name: object) -> str:
    return re.sub(r"[-_ ]", "", str(name)[:LONGEST]).lower()
