"""Frequent coded words for `exact`: counts fall with the square of the rank, noise and rare words fill the rest."""

from __future__ import annotations

import math
import random
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tasks.ruler.problem import NOT_FILLED, Filled
from tasks.ruler.spec import RulerSpec
from tasks.ruler.templates import CODED_WORDS_ASKED, FREQUENT_WORDS
from tasks.text.pieces import PieceCounter

ZETA_OF_2 = math.pi**2 / 6
WORD_LENGTH = 6
NOISE_WORD = "..."
LEAST_WORDS = 53
"""The least total at which ranks 2 to 5 have four different counts."""
SPARE_TOKENS = 24
SPARE_WORDS = 8
MAX_MEASUREMENTS = 16


class CodedProblems:
    """The problems of frequent words."""

    def __init__(self, spec: RulerSpec) -> None:
        self._num_words = max(CODED_WORDS_ASKED + 3, spec.length // 50)

    def problem(self, index: int, rng: random.Random) -> CodedProblem:  # noqa: ARG002
        """A draw of the vocabulary, most frequent first, and of the order in which its words are shown."""
        words: dict[str, None] = {}
        _draw(rng, words, self._num_words)
        order = rng.getrandbits(64)
        _draw(rng, words, self._num_words + SPARE_WORDS)
        vocabulary, spare = list(words)[: self._num_words], list(words)[self._num_words :]
        return CodedProblem(vocabulary=[NOISE_WORD, *vocabulary], spare=spare, order=order)


def _draw(rng: random.Random, words: dict[str, None], count: int) -> None:
    while len(words) < count:
        words["".join(rng.choices(string.ascii_lowercase, k=WORD_LENGTH))] = None


@dataclass(frozen=True, kw_only=True)
class CodedProblem:
    """A vocabulary whose counts are yet to be found."""

    vocabulary: Sequence[str]
    spare: Sequence[str]
    """More words, which occur once if nothing else fills the prompt."""
    order: int
    """Seed of the order in which the words are shown."""
    prefix: str = FREQUENT_WORDS.answer_prefix
    evidence: Sequence[str] = ()
    depths: list[float] | None = field(default_factory=list)

    @cached_property
    def outputs(self) -> Sequence[str]:
        """The three most frequent words, noise apart."""
        return self.vocabulary[1 : CODED_WORDS_ASKED + 1]

    @property
    def facts(self) -> dict[str, Any]:
        """Size of the vocabulary, noise apart."""
        return {"vocabulary": len(self.vocabulary) - 1}

    def frame_tokens(self, counter: PieceCounter) -> int:
        """Tokens of the shortest prompt with one right answer, and of what fills it."""
        return counter.count(self._prompt(self._counts(LEAST_WORDS))) + SPARE_TOKENS

    def filled(self, counter: PieceCounter, budget: int) -> Filled:
        """The prompt of `budget` tokens, or as near below as can be; NOT_FILLED if there is none."""
        costs = [counter.word_cost(f" {word}") for word in (*self.vocabulary, *self.spare)]
        frame = counter.count(self._prompt([0] * len(costs)))
        best, aim = NOT_FILLED, budget
        for _ in range(MAX_MEASUREMENTS):
            prompt = self._prompt(self._counts_of(costs, aim - frame))
            tokens = counter.count(prompt)
            if best.num_tokens < tokens <= budget:
                best = Filled(prompt, tokens)
            if tokens == budget:
                break
            aim += budget - tokens
        return best

    def _counts_of(self, costs: Sequence[int], room: int) -> list[int]:
        """How often each word occurs, so that all together have `room` tokens."""
        low, high = LEAST_WORDS, max(LEAST_WORDS, room)
        while low < high:
            middle = (low + high + 1) // 2
            if _total(self._counts(middle), costs) <= room - SPARE_TOKENS:
                low = middle
            else:
                high = middle - 1
        counts = self._counts(low)
        left = room - _total(counts, costs)
        counts += [0] * len(self.spare)
        rare = [rank for rank in range(CODED_WORDS_ASKED + 1, len(counts)) if counts[rank] + 1 < counts[3]]
        known = {rank: costs[rank] for rank in rare if rank < len(self.vocabulary)}
        change = _smallest_change(left, costs[0], known)
        if not change and left % costs[0]:
            change = _smallest_change(left, costs[0], {rank: costs[rank] for rank in rare})
        for rank in change:
            counts[rank] += 1
            left -= costs[rank]
        counts[0] += max(0, left) // costs[0]
        return counts

    def _counts(self, num_words: int) -> list[int]:
        return [int(num_words * rank**-2.0 / ZETA_OF_2) for rank in range(1, len(self.vocabulary) + 1)]

    def _prompt(self, counts: Sequence[int]) -> str:
        shown = zip((*self.vocabulary, *self.spare), counts, strict=False)
        words = [word for word, times in shown for _ in range(times)]
        random.Random(self.order).shuffle(words)
        return FREQUENT_WORDS.prompt.format(context=" ".join(words)) + self.prefix


def _total(counts: Sequence[int], costs: Sequence[int]) -> int:
    """Tokens of the words that have a count."""
    return sum(times * cost for times, cost in zip(counts, costs, strict=False))


def _smallest_change(left: int, noise_cost: int, rare: dict[int, int]) -> list[int]:
    """The fewest ranks whose costs leave a multiple of the noise's cost; none if there is no way."""
    ways: dict[int, list[int]] = {0: []}
    for _ in range(noise_cost):
        for spent, ranks in list(ways.items()):
            for rank, cost in rare.items():
                if rank not in ranks and spent + cost <= left and (left - spent - cost) % noise_cost == 0:
                    return [*ranks, rank] if left % noise_cost else []
        if left % noise_cost == 0:
            return []
        for spent, ranks in list(ways.items()):
            for rank, cost in rare.items():
                if rank not in ranks and spent + cost <= left:
                    ways.setdefault(spent + cost, [*ranks, rank])
    return []
