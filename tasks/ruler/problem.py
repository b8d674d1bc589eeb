"""What the generator `exact` fills: a problem, drawn before any token is counted, and room for context around it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tasks.ruler.fill import EXTRA_WORDS, fill
from tasks.ruler.haystack import Stretch
from tasks.tokenizers import TokenCounter

MIN_HAYSTACK_TOKENS = 16
NOT_FILLED = ("", 0)


class Problem(Protocol):
    """One sample before it is filled."""

    @property
    def prefix(self) -> str:
        """The answer prefix: the end of every prompt."""

    @property
    def outputs(self) -> Sequence[str]:
        """The answers."""

    @property
    def evidence(self) -> Sequence[str]:
        """Texts of the prompt that hold the answer; of equal ones the last counts."""

    @property
    def depths(self) -> list[float] | None:
        """Where they lie, 0 to 1, if that was drawn; None if it follows from their tokens."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """More fields of the document."""

    def frame_tokens(self, counter: TokenCounter) -> int:
        """Tokens of the prompt without haystack."""

    def filled(self, counter: TokenCounter, budget: int) -> tuple[str, int]:
        """The prompt of `budget` tokens, or as near below as can be, and its tokens; NOT_FILLED if there is none."""


class Problems(Protocol):
    """The problems of one task."""

    def problem(self, index: int, rng: random.Random) -> Problem:
        """Problem `index`; `rng` depends on task, length, seed and index."""


@dataclass(frozen=True, kw_only=True)
class HaystackProblem:
    """A problem whose room is filled with the first so many words of a haystack."""

    stretch: Callable[[], Stretch]
    """The haystack from where it begins."""
    prompt: Callable[[Stretch, list[str]], str]
    """The whole prompt with these lines of the stretch."""
    prefix: str
    outputs: Sequence[str]
    evidence: Sequence[str]
    depths: list[float] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def frame_tokens(self, counter: TokenCounter) -> int:
        """Tokens of the prompt without haystack."""
        return counter.count(self.prompt(self.stretch(), []))

    def filled(self, counter: TokenCounter, budget: int) -> tuple[str, int]:
        """The prompt of `budget` tokens, or as near below as can be, and its tokens; NOT_FILLED if there is none."""
        stretch = self.stretch()
        frame_tokens = counter.count(self.prompt(stretch, []))

        def text(num_words: int, omitted: Sequence[int]) -> str:
            return self.prompt(stretch, stretch.lines(num_words, omitted))

        found = fill(
            costs=_costs(stretch, counter, budget - frame_tokens),
            unit_starts=stretch.unit_starts,
            frame_tokens=frame_tokens,
            budget=budget,
            measure=lambda num_words, omitted: counter.count(text(num_words, omitted)),
        )
        return NOT_FILLED if found is None else (text(found.num_words, found.omitted), found.num_tokens)


def _costs(stretch: Stretch, counter: TokenCounter, wanted_tokens: int) -> list[int]:
    """Estimated tokens of the stretch's words, until there are more words than can be needed."""
    costs: list[int] = []
    total = spare = 0
    most = 2 * (max(0, wanted_tokens) + MIN_HAYSTACK_TOKENS) + 10 * EXTRA_WORDS
    while spare < EXTRA_WORDS and len(costs) < most:
        for piece in stretch.extend():
            costs.append(counter.word_cost(piece))
            total += costs[-1]
            spare += total > wanted_tokens + MIN_HAYSTACK_TOKENS
    return costs
