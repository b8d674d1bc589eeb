"""Effective length: up to which length a model's scores stay above a threshold, with its interval.

Two rules: RULER's (arXiv:2404.06654), above 85.6 %, which Llama-2-7B has at 4K; and NoLiMa's (arXiv:2502.05167), at
least 85 % of the model's own base score at short lengths.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.records.stats import Z95

RULER = 0.856
BASE_SHARE = 0.85
BASE_LENGTH = 1024
"""NoLiMa's base score is the best one at lengths up to this; of a model that has none, that at its shortest length."""
DRAWS = 2000
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A score at a length.

    Attributes:
        length: in tokens.
        value: the score, from 0 to 1.
        low: lower end of its 95 % interval; None where it has none.
        high: upper end.
        n: documents; None where that is not known, and then the score is taken as exact.
    """

    length: int
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True, slots=True)
class EffectiveLength:
    """The longest length that passes with all shorter ones.

    Attributes:
        threshold: what the scores are held against, from 0 to 1.
        tested: the lengths, ascending.
        length: the effective one; None where not even the shortest passes.
        low: lower end of its 95 % interval, likewise.
        high: upper end, likewise.
        again: lengths that pass behind one that does not.
    """

    threshold: float
    tested: tuple[int, ...]
    length: int | None
    low: int | None
    high: int | None
    again: tuple[int, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether every length passes, so that it may be longer than what was tested."""
        return self.length == self.tested[-1]


def effective_length(tasks: Sequence[Sequence[CurvePoint]], threshold: float | None = RULER) -> EffectiveLength:
    """Find the effective length of a task, or of the mean of several.

    The interval is a bootstrap from what records keep: each score is drawn anew from what its document count and its
    interval say of it (Jeffreys' posterior for scores of 0 and 1, else a normal distribution), each length by itself,
    and with NoLiMa's rule the base score with them.

    Args:
        tasks: the points of each task, ascending, all at the same lengths.
        threshold: to be exceeded by the mean, from 0 to 1; None: 85 % of the base score, to be reached.

    Raises:
        ValueError: no task, no point, or lengths that differ or do not ascend.
    """
    tested = [point.length for point in tasks[0]] if tasks else []
    if not tested or sorted(set(tested)) != tested or any([p.length for p in task] != tested for task in tasks):
        raise ValueError("tasks must have the same lengths, at least one, ascending")
    values = np.array([[[point.value for point in task] for task in tasks]])
    passed, thresholds = _passing(values, tested, threshold)
    drawn, _ = _passing(_drawn(tasks), tested, threshold)
    counts = np.sort(_leading(drawn))
    count = int(_leading(passed)[0])
    low = min(count, int(counts[int(0.025 * DRAWS)]))
    high = max(count, int(counts[math.ceil(0.975 * DRAWS) - 1]))
    return EffectiveLength(
        threshold=float(thresholds[0]),
        tested=tuple(tested),
        length=tested[count - 1] if count else None,
        low=tested[low - 1] if low else None,
        high=tested[high - 1] if high else None,
        again=tuple(length for length, passes in list(zip(tested, passed[0], strict=True))[count:] if passes),
    )


def base_score(tasks: Sequence[Sequence[CurvePoint]]) -> float:
    """The mean over tasks of each one's best score at lengths up to BASE_LENGTH, or else at its shortest length."""
    return float(np.mean([max(p.value for p in task[: _num_short([p.length for p in task])]) for task in tasks]))


def _passing(values: Floats, tested: Sequence[int], threshold: float | None) -> tuple[NDArray[np.bool_], Floats]:
    """Which lengths pass in each draw, and what they are held against.

    Args:
        values: [draws, tasks, lengths].
        tested: the lengths.
        threshold: as for `effective_length`.
    """
    means = values.mean(axis=1)
    if threshold is not None:
        return means > threshold, np.full(len(values), threshold)
    base = values[:, :, : _num_short(tested)].max(axis=2).mean(axis=1)
    return (means >= BASE_SHARE * base[:, None]) & (base[:, None] > 0), BASE_SHARE * base


def _num_short(tested: Sequence[int]) -> int:
    return max(1, sum(length <= BASE_LENGTH for length in tested))


def _leading(passed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many lengths pass before the first that does not."""
    counts: NDArray[np.int64] = np.cumprod(passed, axis=1).sum(axis=1)
    return counts


def _drawn(tasks: Sequence[Sequence[CurvePoint]]) -> Floats:
    """Scores drawn anew: [draws, tasks, lengths]; equal points give equal draws."""
    seed = hashlib.sha256(repr([list(task) for task in tasks]).encode()).digest()[:8]
    rng = np.random.default_rng(int.from_bytes(seed, "big"))
    points = [_draws_of(point, rng) for task in tasks for point in task]
    return np.stack(points, axis=1).reshape(DRAWS, len(tasks), len(tasks[0]))


def _draws_of(point: CurvePoint, rng: np.random.Generator) -> Floats:
    if point.n is None or point.n < 1:
        return np.full(DRAWS, point.value)
    right = point.value * point.n
    if abs(right - round(right)) < 1e-6 * point.n and not _is_narrower(point):
        return rng.beta(right + 0.5, point.n - right + 0.5, DRAWS)
    if point.low is None or point.high is None:
        return np.full(DRAWS, point.value)
    error = (point.high - point.low) / (2 * Z95)
    return np.clip(rng.normal(point.value, error, DRAWS), 0.0, 1.0)


def _is_narrower(point: CurvePoint) -> bool:
    """Whether the interval is narrower than that of scores of 0 and 1: then there are scores between them."""
    if point.low is None or point.high is None or point.n is None:
        return False
    spread = 2 * Z95 * math.sqrt(point.value * (1 - point.value) / point.n)
    return point.high - point.low < 0.9 * spread
