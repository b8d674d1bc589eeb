"""Keys and values of needles: word pairs, seven-digit numbers, UUIDs. Every draw takes its own generator."""

from __future__ import annotations

import bisect
import importlib.util
import itertools
import random
import uuid
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, overload

from tasks.errors import TaskError

Kind = Literal["words", "numbers", "uuids"]


def draw(rng: random.Random, kind: Kind) -> str:
    """One key or value: `adjective-noun`, a number of seven digits, or a UUID of version 4."""
    if kind == "numbers":
        return str(rng.randint(10**6, 10**7 - 1))
    if kind == "uuids":
        return str(uuid.UUID(int=rng.getrandbits(128), version=4))
    adjectives, nouns = word_lists()
    return f"{rng.choice(adjectives)}-{rng.choice(nouns)}"


def draw_distinct(rng: random.Random, kind: Kind, count: int, *, absent_from: str) -> list[str]:
    """`count` different keys or values, none of which occurs in the text `absent_from`."""
    drawn: list[str] = []
    for _ in range(count * 1000):
        if len(drawn) == count:
            return drawn
        item = draw(rng, kind)
        if item not in absent_from and not any(item in other or other in item for other in drawn):
            drawn.append(item)
    raise TaskError(f"cannot draw {count} distinct {kind} that the haystack does not contain")


class WordPairs(Sequence[str]):
    """All distinct `adjective-noun` pairs in sorted order, by index, without making the six million strings.

    Pairs of one adjective stand together, since no noun moves `high-…` past `higher-…`. Only an adjective that another
    one continues behind a hyphen (`high`, `high-pitched`) mixes with it; these few groups are sorted as strings.
    """

    def __init__(self, adjectives: Sequence[str], nouns: Sequence[str]) -> None:
        self._nouns = tuple(sorted(set(nouns)))
        self._groups: list[str | tuple[str, ...]] = []
        """The beginning of all pairs of one adjective, or the pairs of several."""
        starts = sorted({f"{adjective}-" for adjective in adjectives})
        lead = 0
        while lead < len(starts):
            end = lead + 1
            while end < len(starts) and starts[end].startswith(starts[lead]):
                end += 1
            mixed = {f"{start}{noun}" for start in starts[lead:end] for noun in self._nouns} if end > lead + 1 else ()
            self._groups.append(tuple(sorted(mixed)) if mixed else starts[lead])
            lead = end
        sizes = (len(self._nouns) if isinstance(group, str) else len(group) for group in self._groups)
        self._ends = list(itertools.accumulate(sizes))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        number = bisect.bisect_right(self._ends, index)
        group = self._groups[number]
        offset = index - (self._ends[number - 1] if number else 0)
        return f"{group}{self._nouns[offset]}" if isinstance(group, str) else group[offset]


@lru_cache(maxsize=1)
def word_pairs() -> WordPairs:
    """The pairs of the package's adjectives and nouns."""
    return WordPairs(*word_lists())


@lru_cache(maxsize=1)
def all_words() -> tuple[str, ...]:
    """Nouns, adjectives and verbs, distinct and sorted."""
    adjectives, nouns = word_lists()
    return tuple(sorted({*adjectives, *nouns, *_lines(_assets() / "verblist.txt")}))


@lru_cache(maxsize=1)
def word_lists() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Adjectives and nouns of the package wonderwords, distinct and sorted; read as files, so nothing is imported."""
    return _lines(_assets() / "adjectivelist.txt"), _lines(_assets() / "nounlist.txt")


def _assets() -> Path:
    found = importlib.util.find_spec("wonderwords")
    if found is None or not found.submodule_search_locations:
        raise TaskError("the word lists come from the package wonderwords: pip install wonderwords==3.0.1")
    return Path(found.submodule_search_locations[0]) / "assets"


def _lines(file: Path) -> tuple[str, ...]:
    return tuple(sorted({line.rstrip() for line in file.read_text(encoding="utf-8").splitlines()} - {""}))
