"""What the generator `exact` fills: a problem, drawn before any token is counted, and room for context around it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from tasks.text.filling import EXTRA_WORDS, fill
from tasks.text.haystack import Stretch
from tasks.text.pieces import PieceCounter
from tasks.text.planting import MIN_FILL, MIN_HAYSTACK_TOKENS

OVERESTIMATED = ((1, False), (1, True), (2, True), (4, True))
"""How many times too high the estimates of words may be, and whether two words may be left out, tried in turn."""


@dataclass(frozen=True)
class Filled:
    """A prompt and its tokens."""

    prompt: str
    num_tokens: int
    evidence_tokens: list[int] | None = None
    """The token at which each evidence begins, if that is known already."""


NOT_FILLED = Filled("", 0)


class RulerProblem(Protocol):
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

    def frame_tokens(self, counter: PieceCounter) -> int:
        """Tokens of the prompt without haystack."""

    def filled(self, counter: PieceCounter, budget: int) -> Filled:
        """The prompt of `budget` tokens, or as near below as can be; NOT_FILLED if there is none."""


ProblemT = TypeVar("ProblemT", bound=RulerProblem)


class RulerProblems(Protocol):
    """The problems of one task."""

    def problem(self, index: int, rng: random.Random) -> RulerProblem:
        """Problem `index`; `rng` depends on task, length, seed and index."""


def first_that_fits(forms: Iterable[ProblemT], counter: PieceCounter, room: int) -> ProblemT:
    """The first form of a problem whose frame has at most `room` tokens, or the last: fullest forms come first."""
    problem = None
    for problem in forms:
        if problem.frame_tokens(counter) <= room:
            break
    assert problem is not None
    return problem


@dataclass(frozen=True, kw_only=True)
class HaystackProblem:
    """A problem that is filled with the words of a haystack, from its first word on."""

    stretch: Callable[[], Stretch]
    """The haystack from where it begins."""
    prompt: Callable[[Stretch, list[str]], str]
    """The whole prompt with these lines of the stretch."""
    prefix: str
    outputs: Sequence[str]
    evidence: Sequence[str]
    depths: list[float] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    lines_before: Callable[[int], list[int]] | None = None
    """From the number of lines to how many of them precede each evidence, if the prompt holds all lines unchanged."""
    two: bool = False
    """Whether two words may be left out to fill the prompt; they may anyhow where it stays far from full otherwise."""
    _frame: list[int] = field(default_factory=list, init=False, repr=False, compare=False)

    def frame_tokens(self, counter: PieceCounter) -> int:
        """Tokens of the prompt without haystack."""
        if not self._frame:
            self._frame.append(counter.count(self.prompt(self.stretch(), [])))
        return self._frame[0]

    def filled(self, counter: PieceCounter, budget: int) -> Filled:
        """The prompt of `budget` tokens, or as near below as can be; NOT_FILLED if there is none."""
        stretch = self.stretch()
        frame_tokens = self.frame_tokens(counter)

        def measure(num_words: int, omitted: tuple[int, ...]) -> int:
            lines = stretch.lines(num_words, omitted)
            if self.lines_before is None or not counter.adds_up:
                return counter.count(self.prompt(stretch, lines))
            short = [counter.shortened(line) for line in lines]
            return counter.count(self.prompt(stretch, [line for line, _ in short])) + sum(lost for _, lost in short)

        found, costs, more = None, list[int](), 0
        for factor, two in OVERESTIMATED:
            _extend(costs, stretch, counter, factor * (budget - frame_tokens) + more)
            found = fill(
                costs=costs,
                unit_starts=stretch.unit_starts,
                frame_tokens=frame_tokens,
                budget=budget,
                measure=measure,
                two=self.two or two,
            )
            lacking = budget - found.num_tokens if found else budget
            if found and found.num_words == len(costs) and lacking:  # each word cost a little less than estimated
                more += 2 * lacking
            elif lacking < (1 - MIN_FILL) * budget:
                break
        if found is None:
            return NOT_FILLED
        lines = stretch.lines(found.num_words, found.omitted)
        positions = self._positions(counter, stretch, lines)
        return Filled(self.prompt(stretch, lines), found.num_tokens, positions)

    def _positions(self, counter: PieceCounter, stretch: Stretch, lines: list[str]) -> list[int] | None:
        """Where evidence begins, by the prompt with shortened lines."""
        if self.lines_before is None or not counter.adds_up:
            return None
        short = [counter.shortened(line) for line in lines]
        prompt = self.prompt(stretch, [line for line, _ in short])
        positions = counter.positions(prompt, [prompt.rindex(text) for text in self.evidence])
        lost = [0, *itertools.accumulate(tokens for _, tokens in short)]
        return [place + lost[before] for place, before in zip(positions, self.lines_before(len(lines)), strict=True)]


def _extend(costs: list[int], stretch: Stretch, counter: PieceCounter, wanted_tokens: int) -> None:
    """Append estimated tokens of the stretch's next words, until there are more words than can be needed."""
    total, spare = sum(costs), 0
    enough = wanted_tokens + MIN_HAYSTACK_TOKENS
    most = 2 * (max(0, wanted_tokens) + MIN_HAYSTACK_TOKENS) + 10 * EXTRA_WORDS
    while spare < EXTRA_WORDS and len(costs) < most:
        added, tokens = counter.word_costs(stretch.extend())
        costs += added
        if total + tokens > enough:
            spare += sum(running > enough for running in itertools.accumulate(added, initial=total)) - (total > enough)
        total += tokens
