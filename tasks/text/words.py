"""The words of the package wonderwords: lists of them, and all pairs of an adjective and a noun."""

from __future__ import annotations

import bisect
import importlib.util
import itertools
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import overload

from tasks.errors import TaskError


class WordPairs(Sequence[str]):
    """All distinct `adjective-noun` pairs in sorted order, by index, without making the six million strings.

    Pairs of one adjective follow one another, since no noun moves `high-…` past `higher-…`. Only an adjective that
    another one continues behind a hyphen (`high`, `high-pitched`) mixes with it; these few groups are sorted as text.
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
