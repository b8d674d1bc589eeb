"""Common words for `exact`: ten words are often in a numbered list, all others seldom; single words fill the rest."""

from __future__ import annotations

import bisect
import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from tasks.ruler.problem import NOT_FILLED, Filled, first_that_fits
from tasks.ruler.spec import RulerSpec
from tasks.ruler.templates import COMMON_WORDS, COMMON_WORDS_ASKED, numbered
from tasks.text.pieces import PieceCounter
from tasks.text.words import all_words

SPARE_SINGLES = 24
MAX_MEASUREMENTS = 16
SHORT = 4096
PROBES = 64
PROBE_MARGIN = 1.06


@dataclass(frozen=True)
class Form:
    """A list and the example in front of it."""

    often: int
    """How often each word asked for is in the list."""
    seldom: int
    example: tuple[int, int, int] | None
    """Different words of the example, and how often its common words and its others occur; None: no example."""


FORMS = (Form(30, 3, (40, 10, 3)), Form(6, 1, (20, 3, 1)), Form(4, 1, (14, 2, 1)), Form(3, 1, None))
"""RULER's two, the first from SHORT on; then those for lengths that hold neither."""


class CommonProblems:
    """The problems of common words: how often a word occurs follows RULER, times more where words run out."""

    def __init__(self, spec: RulerSpec, counter: PieceCounter, room: int) -> None:
        # An entry of the list has three tokens or more; the factor leaves a third of the words for the end.
        times = 1
        while spec.length >= SHORT and spec.length > 2 * len(all_words()) * FORMS[0].seldom * times:
            times += 1
        long = replace(FORMS[0], often=FORMS[0].often * times, seldom=FORMS[0].seldom * times)
        self._counter, self._room = counter, room
        forms = [form for form in (long, *FORMS[1:]) if form is not long or spec.length >= SHORT]
        while len(forms) > 1 and not self._holds(forms[0]):
            forms.pop(0)
        self._forms = forms

    def _holds(self, form: Form) -> bool:
        """Whether probes of a form fit with something to spare, so that a cell's samples have one form."""
        probes = (_draw(random.Random(seed), form) for seed in range(PROBES))
        return max(probe.frame_tokens(self._counter) for probe in probes) * PROBE_MARGIN <= self._room

    def problem(self, index: int, rng: random.Random) -> ListProblem:  # noqa: ARG002
        """A draw of the example, of all words in the order of their use, and of the order in which they are shown."""
        return first_that_fits((_draw(copy.copy(rng), form) for form in self._forms), self._counter, self._room)


def _draw(rng: random.Random, form: Form) -> ListProblem:
    solved, prefix = "", COMMON_WORDS.answer_prefix
    if form.example is not None:
        example, answers = _list(rng, *form.example)
        solved = COMMON_WORDS.prompt.format(context=numbered(example)) + f"{prefix} {numbered(answers)}\n"
    words = rng.sample(all_words(), len(all_words()))
    return ListProblem(
        solved=solved,
        outputs=words[:COMMON_WORDS_ASKED],
        others=words[COMMON_WORDS_ASKED:],
        often=form.often,
        seldom=form.seldom,
        order=rng.getrandbits(64),
    )


@dataclass(frozen=True, kw_only=True)
class ListProblem:
    """A list of words, without its others."""

    solved: str
    """The example with its answers; empty if there is none."""
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
        """How often the words asked for are in the list, and the others; whether a solved example comes before."""
        return {"often": self.often, "seldom": self.seldom, "example": bool(self.solved)}

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
        """How many other words occur `seldom` times, and which occur once, so that they have `room` tokens."""
        first = len(self.outputs) * self.often
        costs = [counter.word_cost(f" {word}") for word in self.others]
        numbers = _numbers(counter)
        totals = [0]
        for count, cost in enumerate(costs, start=1):
            if totals[-1] > room:
                break
            entries = first + count * self.seldom
            total = totals[-1] + cost * self.seldom + numbers.up_to(entries) - numbers.up_to(entries - self.seldom)
            totals.append(total)
        most = max(0, bisect.bisect_right(totals, room) - 1)
        for count in range(most, max(-1, most - 4), -1):
            entries = first + count * self.seldom
            spare: dict[int, list[str]] = {}
            for word, cost in zip(self.others[count:], costs[count:], strict=True):
                spare.setdefault(cost, []).append(word)
            for num_singles in range(self.seldom + SPARE_SINGLES):
                left = room - totals[count] - (numbers.up_to(entries + num_singles) - numbers.up_to(entries))
                singles = _with_sum(spare, num_singles, left)
                if singles is not None:
                    return count, singles
        return most, []


class _Numbers:
    """Tokens of "1. 2. 3. …" up to any number, counted as far as they were asked for."""

    def __init__(self, counter: PieceCounter) -> None:
        self._counter = counter
        self._sums = [0]

    def up_to(self, last: int) -> int:
        """Tokens of the numbers from 1 to `last`."""
        while len(self._sums) <= last:
            self._sums.append(self._sums[-1] + self._counter.word_cost(f" {len(self._sums)}."))
        return self._sums[last]


@lru_cache(maxsize=4)
def _numbers(counter: PieceCounter) -> _Numbers:
    return _Numbers(counter)


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
