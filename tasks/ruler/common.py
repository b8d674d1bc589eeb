"""Common words for `exact`: ten words stand often in a numbered list, all others seldom; single words fill the rest."""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.pieces import PieceCounter
from tasks.ruler.problem import NOT_FILLED, Filled
from tasks.ruler.spec import RulerSpec
from tasks.ruler.templates import COMMON_WORDS, COMMON_WORDS_ASKED, numbered
from tasks.ruler.words import all_words

MAX_SINGLES = 24
MAX_MEASUREMENTS = 16
SHORT = 4096


class CommonProblems:
    """The problems of common words: how often a word stands follows RULER, times more where words run out."""

    def __init__(self, spec: RulerSpec) -> None:
        self._short = spec.length < SHORT
        often, seldom = (6, 1) if self._short else (30, 3)
        # An entry of the list has three tokens or more; the factor leaves a third of the words for the end.
        times = 1
        while not self._short and spec.length > 2 * len(all_words()) * seldom * times:
            times += 1
        self._often, self._seldom = often * times, seldom * times

    def problem(self, index: int, rng: random.Random) -> ListProblem:  # noqa: ARG002
        """A draw of the example, of all words in the order of their use, and of the order in which they are shown."""
        if self._short:
            example, answers = _list(rng, 20, 3, 1)
        else:
            example, answers = _list(rng, 40, 10, 3)
        prefix = COMMON_WORDS.answer_prefix
        words = rng.sample(all_words(), len(all_words()))
        solved = COMMON_WORDS.prompt.format(context=numbered(example)) + f"{prefix} {numbered(answers)}\n"
        return ListProblem(
            solved=solved,
            outputs=words[:COMMON_WORDS_ASKED],
            others=words[COMMON_WORDS_ASKED:],
            often=self._often,
            seldom=self._seldom,
            order=rng.getrandbits(64),
        )


@dataclass(frozen=True, kw_only=True)
class ListProblem:
    """A list of words, without its others."""

    solved: str
    """The example with its answers."""
    outputs: Sequence[str]
    others: Sequence[str]
    often: int
    seldom: int
    order: int
    """Seed of the order in which the words are shown."""
    prefix: str = COMMON_WORDS.answer_prefix
    evidence: Sequence[str] = ()
    depths: list[float] | None = field(default_factory=list)

    @property
    def facts(self) -> dict[str, Any]:
        """How often the words asked for stand in the list, and the others."""
        return {"often": self.often, "seldom": self.seldom}

    def frame_tokens(self, counter: PieceCounter) -> int:
        """Tokens of the prompt with nothing but the words asked for."""
        return counter.count(self._prompt(0, ()))

    def filled(self, counter: PieceCounter, budget: int) -> Filled:
        """The prompt of `budget` tokens, or as near below as can be; NOT_FILLED if there is none."""
        best = NOT_FILLED
        frame = self.frame_tokens(counter)
        aim = budget
        for _ in range(MAX_MEASUREMENTS):
            count, singles = self._choice(counter, aim - frame)
            prompt = self._prompt(count, singles)
            tokens = counter.count(prompt)
            if best.num_tokens < tokens <= budget:
                best = Filled(prompt, tokens)
            if tokens == budget:
                break
            aim += budget - tokens if budget != tokens else 0
        return best

    def _prompt(self, count: int, singles: Sequence[str]) -> str:
        words = [*self.outputs] * self.often + [*self.others[:count]] * self.seldom + [*singles]
        random.Random(self.order).shuffle(words)
        return self.solved + COMMON_WORDS.prompt.format(context=numbered(words)) + self.prefix

    def _choice(self, counter: PieceCounter, room: int) -> tuple[int, list[str]]:
        """How many other words stand `seldom` times, and which stand once, so that they have `room` tokens."""
        first = len(self.outputs) * self.often
        costs = [counter.word_cost(f" {word}") for word in self.others]
        numbers = list(itertools.accumulate(_number_costs(counter, first, room), initial=0))
        totals = [0]
        for count, cost in enumerate(costs, start=1):
            entries = count * self.seldom
            if entries >= len(numbers):
                break
            totals.append(totals[-1] + cost * self.seldom + numbers[entries] - numbers[entries - self.seldom])
        most = max(0, bisect.bisect_right(totals, room) - 1)
        for count in range(most, max(-1, most - 4), -1):
            entries = count * self.seldom
            spare: dict[int, list[str]] = {}
            for word, cost in zip(self.others[count:], costs[count:], strict=True):
                spare.setdefault(cost, []).append(word)
            for num_singles in range(min(MAX_SINGLES, len(numbers) - 1 - entries) + 1):
                left = room - totals[count] - (numbers[entries + num_singles] - numbers[entries])
                singles = _with_sum(spare, num_singles, left)
                if singles is not None:
                    return count, singles
        return most, []


def _number_costs(counter: PieceCounter, first: int, room: int) -> list[int]:
    """Tokens of the numbers behind `first`, as many as could be needed."""
    return [counter.word_cost(f" {number}.") for number in range(first + 1, first + 2 + max(0, room) // 2)]


def _with_sum(spare: dict[int, list[str]], count: int, total: int) -> list[str] | None:
    """`count` different words whose costs have this sum, or None."""
    if count == 0:
        return [] if total == 0 else None
    if not spare or not count * min(spare) <= total <= count * max(spare):
        return None
    taken: dict[int, int] = {}
    words = []
    for left in range(count, 0, -1):
        fits = [
            cost
            for cost in spare
            if taken.get(cost, 0) < len(spare[cost])
            and (left - 1) * min(spare) <= total - cost <= (left - 1) * max(spare)
        ]
        if not fits:
            return None
        cost = min(fits, key=lambda cost: (abs(cost - total / left), cost))
        words.append(spare[cost][taken.get(cost, 0)])
        taken[cost] = taken.get(cost, 0) + 1
        total -= cost
    return words if total == 0 else None


def _list(rng: random.Random, count: int, often: int, seldom: int) -> tuple[list[str], list[str]]:
    drawn = rng.sample(all_words(), count)
    common = drawn[:COMMON_WORDS_ASKED]
    words = common * often + drawn[COMMON_WORDS_ASKED:] * seldom
    rng.shuffle(words)
    return words, common
