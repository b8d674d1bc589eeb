"""What one draw of an official generator yields."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Count = Callable[[str], int]
"""Tokens of a text, as the generator counts them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """A prompt with its answers."""

    prompt: str
    """All that the model is given, answer prefix included."""
    prefix: str
    """The answer prefix: the end of the prompt, with what joins it."""
    outputs: tuple[str, ...]
    evidence: tuple[str, ...] = ()
    """Texts of the context that hold the answer."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """More fields of the document."""
    measured: str | None = None
    """What is counted instead of the prompt, where a generator counts something else."""

    @property
    def counted(self) -> str:
        """The text whose tokens decide whether the draw fits."""
        return self.prompt if self.measured is None else self.measured


class DrawnTask(Protocol):
    """Tasks of one kind: draws of any size from one stream of random numbers."""

    step: int
    """By how much sizes are changed."""
    generated_tokens: int

    def draw(self, size: int) -> Drawn:
        """A sample with `size` units of context. Raises ValueError or IndexError where the original does."""

    def ask(self, index: int) -> None:
        """Which sample is drawn from now on; only questions depend on it."""


def between(parts: list[str], cuts: list[int], inserted: list[str]) -> list[str]:
    """The parts in front of each cut joined by spaces, then what is inserted there, and the rest; empty joins stay."""
    ends = [*cuts, len(parts)]
    pieces: list[str] = []
    for number, (start, end) in enumerate(itertools.pairwise([0, *ends])):
        pieces.append(" ".join(parts[start:end]))
        if number < len(inserted):
            pieces.append(inserted[number])
    return pieces
