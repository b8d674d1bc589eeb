"""The mean difference of two models over places, tested as one number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from harness.analysis.comparison import MeanComparison, TaskComparison
from harness.analysis.intervals import LEVEL, Floats, quantile_for
from harness.analysis.measure import FLIPS_BY_TEXT, WELCH, Contribution
from harness.analysis.places import Compared
from harness.analysis.power import detectable
from harness.analysis.seeds import compare_means_of_seeds
from harness.analysis.significance import agreeing, sign_flip
from tasks.metrics import Unit
from tasks.registry import Average, Suite

ALL = "all cells"
NORMAL = "normal, places independent"
UNSEEN = 0.5
"""Groups all one way that each place of shares counts as if it had more."""
ADDED: tuple[Unit, ...] = ("share", "bits")
"""Units whose differences can be added; of several the first is taken."""


def compare_means(compared: Sequence[Compared], suite: Suite | None, alpha: float) -> tuple[MeanComparison, ...]:
    """Compare two models over all their places and over the suite's averages.

    Every place counts alike. Groups of samples that several places share (two metrics of the same answers, one text
    that two tasks ask about) have their signs flipped together.

    Args:
        compared: the places of one pair of models.
        suite: whose averages are compared; one that lacks a place is left out.
        alpha: the level of the smallest mean difference that could have been found: means are corrected over pairs of
            models, not over places.
    """
    unit = next((unit for unit in ADDED if sum(each.task.unit == unit for each in compared) > 1), None)
    found = []
    if unit is not None:
        found.append(_mean(ALL, [each for each in compared if each.task.unit == unit], unit, alpha))
    for average in () if suite is None else suite.averages:
        parts = _of_average(compared, suite, average)
        if parts and len({each.task.unit for each in parts}) == 1:
            found.append(_mean(f"{average.group} {average.label}".strip(), parts, parts[0].task.unit, alpha))
    return tuple(found)


def _of_average(compared: Sequence[Compared], suite: Suite | None, average: Average) -> list[Compared]:
    """The places of an average; none where one is missing."""
    columns = [] if suite is None else [column for column in suite.columns if column.name in average.of]
    wanted = [(column.task, column.length, column.metric) for column in columns]
    by_place = {(each.task.place.task, each.task.place.length, each.task.place.metric): each for each in compared}
    found = [by_place[key] for key in wanted if key in by_place]
    return found if len(found) == len(average.of) else []


def _mean(label: str, compared: Sequence[Compared], unit: Unit, alpha: float) -> MeanComparison:
    tasks = [each.task for each in compared]
    value = sum(_advantage(task, task.difference) for task in tasks) / len(tasks)
    if all(task.pairing == "seeds" for task in tasks):
        return compare_means_of_seeds(label, tasks, value, unit, alpha)
    known = _by_group(compared, unit)
    if known is None:
        return _of_intervals(label, tasks, value, unit, alpha)
    reach = float(t.ppf(0.5 + LEVEL / 2, known.degrees)) * known.error
    ends = value - reach, value + reach
    if known.is_paired:
        p = sign_flip(known.parts)
        ends = agreeing(ends, value, p, known.parts, known.weights)
    else:
        p = float(2 * t.sf(abs(value) / known.error, known.degrees)) if known.error else float(value == 0)
    if unit == "share":
        ends = max(ends[0], -1.0), min(ends[1], 1.0)
    return MeanComparison(
        label=label,
        places=len(tasks),
        difference=value,
        low=ends[0],
        high=ends[1],
        unit=unit,
        test=FLIPS_BY_TEXT if known.is_paired else WELCH,
        p=p,
        detectable=detectable(known.error, alpha),
    )


def _of_intervals(
    label: str, tasks: Sequence[TaskComparison], value: float, unit: Unit, alpha: float
) -> MeanComparison:
    """The mean where the samples of a place are not known: of the places' own intervals, as independent numbers."""
    ends = [(task.low, task.high) for task in tasks]
    found = MeanComparison(
        label=label,
        places=len(tasks),
        difference=value,
        low=None,
        high=None,
        unit=unit,
        test="none: a place has no interval",
        p=None,
    )
    if any(low is None or high is None for low, high in ends):
        return found
    low, high = _put_together(tasks, value)
    z = quantile_for(None)
    towards_zero = value - low if value > 0 else high - value
    p = float(2 * norm.sf(abs(value) / towards_zero * z)) if towards_zero else float(value == 0)
    return replace(found, low=low, high=high, test=NORMAL, p=p, detectable=detectable((high - low) / 2 / z, alpha))


@dataclass(frozen=True)
class _Known:
    """What groups of samples say of a mean.

    Attributes:
        parts: what each adds to the mean, an advantage of A.
        weights: what each adds to a mean of 1.
        error: the standard error of the mean.
        degrees: of freedom of that error.
        is_paired: whether all of them are of samples that both models have.
    """

    parts: Floats
    weights: Floats
    error: float
    degrees: float
    is_paired: bool


def _by_group(compared: Sequence[Compared], unit: Unit) -> _Known | None:
    """Put the places' groups together, those of one name as one; None where one place does not say.

    That nothing varies at a place does not prove that nothing could, so each place of shares counts as if it had half
    a group more that is all one way (a quarter each way; Agresti and Min 2005 add a half to each), and twice
    that where nothing varies at any place.
    """
    places: list[tuple[Contribution, float, int]] = []
    scales: list[float] = []
    for each in compared:
        if each.parts is None:
            return None
        for part in each.parts:
            count = len(part.groups)
            scales.append(_advantage(each.task, 1.0) / len(compared))
            places.append((part, math.sqrt(count / max(count - 1, 1)) * scales[-1], count))
    order, at = _numbered(tuple(part.groups for part, _, _ in places))
    parts, errors, weights = np.zeros((3, len(order)))
    for (part, spread, _), scale, where in zip(places, scales, at, strict=True):
        parts[where] += scale * part.parts
        errors[where] += spread * part.errors
        weights[where] += part.weights / len(compared)
    varied = float(sum(error**2 for error in errors))
    more = 0.0 if unit != "share" else UNSEEN if varied else 2 * UNSEEN
    unseen = [
        more * float(part.weights.max()) / len(compared) * float(weights[where].max())
        for (part, _, _), where in zip(places, at, strict=True)
    ]
    own = [
        float(((spread * part.errors) ** 2).sum()) + add for (part, spread, _), add in zip(places, unseen, strict=True)
    ]
    freedom = sum(one**2 / max(count - 1, 1) for one, (_, _, count) in zip(own, places, strict=True))
    most = max(len(order) - 1, 1)
    return _Known(
        parts=parts[order],
        weights=weights[order],
        error=math.sqrt(varied + sum(unseen)),
        degrees=min(sum(own) ** 2 / freedom, most) if freedom else most,
        is_paired=all(part.is_paired for part, _, _ in places),
    )


@lru_cache(maxsize=64)
def _numbered(groups: tuple[tuple[str, ...], ...]) -> tuple[NDArray[np.intp], tuple[NDArray[np.intp], ...]]:
    """Number groups of several places as they come, those of one name alike.

    Args:
        groups: of each place; no name is twice in one place.

    Returns:
        The numbers in the order of the names, and those of each place's groups.
    """
    numbers: dict[str, int] = {}
    at = tuple(np.array([numbers.setdefault(name, len(numbers)) for name in place], np.intp) for place in groups)
    return np.array([numbers[name] for name in sorted(numbers)], np.intp), at


def _put_together(tasks: Sequence[TaskComparison], value: float) -> tuple[float, float]:
    """The places' own intervals, put together as those of independent numbers (MOVER, Zou and Donner 2008)."""
    below = above = 0.0
    for task in tasks:
        if task.low is None or task.high is None:
            continue
        ends = sorted((_advantage(task, task.low), _advantage(task, task.high)))
        middle = _advantage(task, task.difference)
        below += ((middle - ends[0]) / len(tasks)) ** 2
        above += ((ends[1] - middle) / len(tasks)) ** 2
    return value - math.sqrt(below), value + math.sqrt(above)


def _advantage(task: TaskComparison, difference: float) -> float:
    """A difference as an advantage of A."""
    return difference if task.higher_is_better else -difference
