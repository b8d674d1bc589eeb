"""Why a model failed: verdicts counted by task, length and depth, and two models answer by answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeVar

from basis.names import listed
from harness.analysis.depths import has_mean_depths, mean_depths_note
from harness.analysis.judged_runs import JudgedAnswer, JudgedModel
from harness.errors import UserError
from tasks.verdicts import VERDICTS, Verdict

T = TypeVar("T")
DEPTHS = 5
Grouping = Literal["task", "length", "depth", "task and length"]
Alike = Literal["sample", "question"]


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Verdicts of some answers.

    Attributes:
        label: what these answers have in common.
        answers: at least one.
    """

    label: str
    answers: tuple[JudgedAnswer, ...]

    @property
    def n(self) -> int:
        """How many answers there are."""
        return len(self.answers)

    @cached_property
    def counts(self) -> dict[Verdict, int]:
        """How many answers have each verdict."""
        found = Counter(answer.verdict for answer in self.answers)
        return {verdict: found[verdict] for verdict in VERDICTS}

    @property
    def score(self) -> float:
        """The mean score, from 0 to 1."""
        return _mean([answer.score for answer in self.answers])

    @property
    def answered(self) -> float:
        """The share of answers that give a value of the right kind, right or wrong."""
        return _mean([float(bool(answer.sample.answered)) for answer in self.answers])

    @property
    def score_when_answered(self) -> float | None:
        """The mean score of those; None where there are none."""
        scores = [answer.score for answer in self.answers if answer.sample.answered]
        return _mean(scores) if scores else None


@dataclass(frozen=True, kw_only=True)
class Failures:
    """How a model failed.

    Attributes:
        model: what it answered.
        total: all its answers.
        groups: the same by what they have in common.
    """

    model: JudgedModel
    total: Tally
    groups: Mapping[Grouping, tuple[Tally, ...]]


def failures_of(model: JudgedModel) -> Failures:
    """Count the verdicts of a model's answers."""
    answers = model.answers
    places = {task: place for place, task in enumerate(dict.fromkeys(answer.task for answer in answers))}
    by_length = sorted(answers, key=lambda answer: (answer.length is None, answer.length or 0))
    deep = [answer for answer in answers if answer.sample.depth is not None]
    spread = [task for task in places if has_mean_depths(task, (each.sample for each in deep if each.task == task))]
    if spread:
        model = replace(model, notes=(*model.notes, mean_depths_note(spread)))
    deep.sort(key=lambda answer: _bin(answer.sample.depth or 0.0))
    return Failures(
        model=model,
        total=Tally(label="all", answers=answers),
        groups={
            "task": _tallies(answers, lambda answer: answer.task),
            "length": _tallies(by_length, lambda answer: "none" if answer.length is None else f"{answer.length:,}"),
            "depth": _tallies(deep, lambda answer: depth_label(answer.sample.depth or 0.0)),
            "task and length": _tallies(sorted(by_length, key=lambda each: places[each.task]), lambda each: each.label),
        },
    )


def depth_label(depth: float) -> str:
    """The fifth of the context that a depth from 0 to 1 lies in, such as `20-40 %`."""
    step = 100 // DEPTHS
    first = _bin(depth) * step
    return f"{first}-{first + step} %"


def examples(answers: Iterable[JudgedAnswer], count: int, verdicts: Sequence[Verdict]) -> list[JudgedAnswer]:
    """Choose answers to read: some of each verdict, from one task after the other.

    Args:
        answers: to choose from.
        count: at most so many of each verdict.
        verdicts: that are wanted, in this order.
    """
    rows = list(answers)
    of_each = ([answer for answer in rows if answer.verdict == verdict] for verdict in verdicts)
    return [answer for own in of_each for answer in _in_turns(own, lambda answer: answer.label)[:count]]


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Two models, answer by answer.

    Attributes:
        a: one model's label.
        b: the other's.
        pairs: the answers to what both were asked.
        alike: whether they were asked the same samples, or by other tokenizers the same questions about contexts of
            other lengths.
        only_a: answers of A to what B was not asked.
        only_b: the other way round.
    """

    a: str
    b: str
    pairs: tuple[tuple[JudgedAnswer, JudgedAnswer], ...]
    alike: Alike
    only_a: int
    only_b: int

    @cached_property
    def crossed(self) -> Counter[tuple[Verdict, Verdict]]:
        """How many pairs have each pair of verdicts, A's first."""
        return Counter((a.verdict, b.verdict) for a, b in self.pairs)

    def won(self, by_a: bool, against: Sequence[Verdict] = VERDICTS) -> list[tuple[JudgedAnswer, JudgedAnswer]]:
        """The pairs of which one side is right and the other is not, from one task after the other.

        Args:
            by_a: whether A is right, not B.
            against: the other's verdicts that are wanted.
        """
        found = []
        for a, b in self.pairs:
            winner, loser = (a, b) if by_a else (b, a)
            if winner.verdict == "right" != loser.verdict and loser.verdict in against:
                found.append((a, b))
        return _in_turns(found, lambda pair: pair[0].label)


def contrast(a: JudgedModel, b: JudgedModel) -> Contrast:
    """Put two models' answers side by side.

    Raises:
        UserError: nothing was asked of both.
    """
    ways: tuple[tuple[Alike, Callable[[JudgedAnswer], object]], ...] = (
        ("sample", lambda answer: (answer.task, answer.length, answer.sample.sample)),
        ("question", _question),
    )
    for alike, key in ways:
        of_a, of_b = _keyed(a.answers, key), _keyed(b.answers, key)
        common = [each for each in of_a if each in of_b]
        if common:
            return Contrast(
                a=a.label,
                b=b.label,
                pairs=tuple((of_a[each], of_b[each]) for each in common),
                alike=alike,
                only_a=len(a.answers) - len(common),
                only_b=len(b.answers) - len(common),
            )
    tasks = [sorted({answer.label for answer in model.answers}) for model in (a, b)]
    both = sorted(set(tasks[0]) & set(tasks[1]))
    why = f"the samples of {listed(both, 4)} differ (seed, generator or data)" if both else "no task in common"
    raise UserError(f"{a.label} and {b.label} were not asked the same: {why}; run both on one suite")


def _question(answer: JudgedAnswer) -> object:
    """What is the same of a sample whatever the tokenizer that fills its context."""
    sample = answer.sample
    return answer.task, answer.length, sample.index, sample.query, sample.references


def _keyed(
    answers: Iterable[JudgedAnswer], key: Callable[[JudgedAnswer], object]
) -> dict[tuple[object, int], JudgedAnswer]:
    """Answers by what is the same in both runs; equal ones of one run are told apart by their order."""
    seen: Counter[object] = Counter()
    found = {}
    for answer in answers:
        each = key(answer)
        found[each, seen[each]] = answer
        seen[each] += 1
    return found


def _tallies(answers: Iterable[JudgedAnswer], label: Callable[[JudgedAnswer], str]) -> tuple[Tally, ...]:
    groups: dict[str, list[JudgedAnswer]] = {}
    for answer in answers:
        groups.setdefault(label(answer), []).append(answer)
    return tuple(Tally(label=name, answers=tuple(own)) for name, own in groups.items())


def _in_turns(items: Iterable[T], key: Callable[[T], str]) -> list[T]:
    """The first of each key, then the second of each, and so on."""
    groups: dict[str, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    turns = [(turn, place, own[turn]) for place, own in enumerate(groups.values()) for turn in range(len(own))]
    return [item for _, _, item in sorted(turns, key=lambda each: each[:2])]


def _bin(depth: float) -> int:
    return min(DEPTHS - 1, int(depth * DEPTHS))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
