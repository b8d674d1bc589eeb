"""Haystacks: an endless stream of words in units (sentences or lines), taken from any place and cut after any word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol

from tasks import data

HaystackKind = Literal["noise", "essay"]
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
"""The unit of the haystack `noise`, as RULER writes it."""


class Units(Protocol):
    """Endless units of text."""

    @property
    def joiner(self) -> str:
        """The text between two units."""

    def pieces(self, unit: int) -> list[str]:
        """The words of a unit, each with the separator before it: the joiner, or a space."""


@dataclass(frozen=True)
class Haystack:
    """Units of text that repeat for ever."""

    units: tuple[str, ...]
    joiner: str
    """The text between two units."""
    lookalikes: str = field(repr=False)
    """Every word of the haystack that could hold a key or a value: none of them may occur in it."""
    _split: dict[int, list[str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def pieces(self, unit: int) -> list[str]:
        """The words of a unit, each with the separator before it; units are counted past the end of the corpus."""
        number = unit % len(self.units)
        if number not in self._split:
            first, *rest = self.units[number].split(" ")
            self._split[number] = [self.joiner + first, *(" " + word for word in rest)]
        return self._split[number]


class Stretch:
    """A haystack from one unit on, as far as it was asked for: pieces (word with separator) and where units begin."""

    def __init__(self, haystack: Units, start: int) -> None:
        self._haystack = haystack
        self._next_unit = start
        self.pieces: list[str] = []
        self.unit_starts: list[int] = []

    def extend(self) -> list[str]:
        """Append one more unit and return its pieces."""
        added = self._haystack.pieces(self._next_unit)
        self._next_unit += 1
        self.unit_starts.append(len(self.pieces))
        self.pieces += added
        return added

    def lines(self, num_words: int, omitted: Sequence[int] = ()) -> list[str]:
        """The units that the first `num_words` words make, the last one maybe cut; words in `omitted` are left out."""
        if num_words == 0:
            return []
        kept = self.pieces[:num_words]
        for index in omitted:
            kept[index] = ""
        starts = [start for start in self.unit_starts if start < num_words]
        units = ["".join(kept[start:end]) for start, end in zip(starts, [*starts[1:], num_words], strict=True)]
        joiner = self._haystack.joiner
        return [unit[len(joiner) if unit.startswith(joiner) else 1 :] for unit in units if unit]

    def context(self, needles: Sequence[str], depths: Sequence[int], lines: Sequence[str]) -> str:
        """Put needle i in front of the line at `depths[i]` percent; depths ascend, 0 is the top and 100 the end."""
        parts: list[str] = []
        done = 0
        for needle, depth in zip(needles, depths, strict=True):
            cut = len(lines) * depth // 100
            parts += [*lines[done:cut], needle]
            done = cut
        return self._haystack.joiner.join([*parts, *lines[done:]])


def load(kind: HaystackKind) -> Haystack:
    """The haystack of this kind. `essay` needs essays.json staged and raises DataNotStaged without it."""
    if kind == "noise":
        return Haystack(units=(NOISE,), joiner="\n", lookalikes="")
    return _essays(data.path("essays.json"))


@lru_cache(maxsize=4)
def _essays(_file: Path) -> Haystack:
    # Splitting the whole corpus takes 0.7 s once (2026-11, one core); its code is imported only when needed.
    import punkt

    text = " ".join(data.essays_text().split())
    lookalikes = " ".join(word for word in dict.fromkeys(text.split(" ")) if "-" in word or re.search(r"\d{7}", word))
    units = tuple(punkt.sent_tokenize(text, line_breaks="ignore", prefixes=False))
    return Haystack(units=units, joiner=" ", lookalikes=lookalikes)
