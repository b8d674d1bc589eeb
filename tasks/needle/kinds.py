"""Kinds of keys and values: how one is drawn, and whether a text already contains it.

A kind is written as a name (`words`, `numbers`, `uuids`) or as a mapping with `kind` and its options.
"""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tasks.errors import TaskError
from tasks.ruler.words import word_lists

Draw = Callable[[random.Random], str]
TRIES = 1000


@dataclass(frozen=True)
class Corpus:
    """A text that is asked whether it contains something, case ignored as scoring ignores it."""

    text: str = field(repr=False)

    def contains(self, item: str) -> bool:
        """Whether `item` occurs anywhere. An item without white space can only occur inside a word."""
        wanted = item.lower()
        if any(character.isspace() for character in wanted):
            return wanted in self._lower
        return wanted in (self._with_digits if any(c.isdigit() for c in wanted) else self._words)

    @cached_property
    def _lower(self) -> str:
        return self.text.lower()

    @cached_property
    def _words(self) -> str:
        return " ".join(dict.fromkeys(self._lower.split()))

    @cached_property
    def _with_digits(self) -> str:
        return " ".join(word for word in self._words.split() if re.search(r"\d", word))


def word_pair(rng: random.Random) -> str:
    """`adjective-noun`, as RULER's keys."""
    adjectives, nouns = word_lists()
    return f"{rng.choice(adjectives)}-{rng.choice(nouns)}"


def number(rng: random.Random, digits: int = 7) -> str:
    """A number of so many digits that does not begin with 0."""
    return str(rng.randint(10 ** (digits - 1), 10**digits - 1))


def uuid4(rng: random.Random) -> str:
    """A UUID of version 4."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


SIMPLE: dict[str, Draw] = {"words": word_pair, "numbers": number, "uuids": uuid4}


def draw_distinct(
    rng: random.Random, draw: Draw, count: int, *, what: str, absent_from: Corpus, taken: Sequence[str] = ()
) -> list[str]:
    """`count` different items; none occurs in the corpus, in another, or in one of `taken`, nor the other way round.

    Args:
        what: the kind, for the error message.

    Raises:
        TaskError: too few such items were found in 1000 tries an item.
    """
    found: list[str] = []
    collisions = 0
    for _ in range(count * TRIES):
        if len(found) == count:
            return found
        item = draw(rng)
        small = item.lower()
        if any(small in other.lower() or other.lower() in small for other in (*found, *taken)):
            continue
        if absent_from.contains(item):
            collisions += 1
            continue
        found.append(item)
    if len(found) == count:
        return found
    reason = f"; {collisions} drawn ones occur in the haystack" if collisions else ""
    raise TaskError(f"cannot draw {count} different {what}{reason}: use longer ones, or more to choose from")
