"""The mean difference of two models over places, tested as one number."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import norm, t

from harness.analysis.comparison import MeanComparison, TaskComparison
from harness.analysis.intervals import Floats, quantile_for
from harness.analysis.measure import FLIPS_BY_TEXT, WELCH
from harness.analysis.places import Compared
from harness.analysis.power import detectable
from harness.analysis.seeds import compare_means_of_seeds
from harness.analysis.significance import sign_flip
from tasks.metrics import Unit
from tasks.registry import Average, Suite

ALL = "all cells"
NORMAL = "normal, places independent"
ADDED: tuple[Unit, ...] = ("share", "bits")
"""Units whose differences can be added; of several the first is taken."""


def compare_means(compared: Sequence[Compared], suite: Suite | None, alpha: float) -> tuple[MeanComparison, ...]:
    """Compare two models over all their places and over the suite's averages.

    Every place counts alike. Groups of samples that several places share (two metrics of the same answers, one text
    that two tasks ask about) have their signs flipped together.

    Args:
        compared: the places of one pair of models.
        suite: whose averages are compared; one that lacks a place is left out.
        alpha: the level of the smallest difference that could have been found.
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
    known = _by_group(compared)
    if known is None:
        return _of_intervals(label, tasks, value, unit, alpha)
    parts, errors, paired = known
    count = len(errors)
    error = math.sqrt(float((errors**2).sum()) * count / max(count - 1, 1))
    low, high = _interval(tasks, value, error, count)
    return MeanComparison(
        label=label,
        places=len(tasks),
        difference=value,
        low=low,
        high=high,
        unit=unit,
        test=FLIPS_BY_TEXT if paired else WELCH,
        p=sign_flip(parts) if paired else _p_of(value, error, count),
        detectable=detectable(error, alpha),
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
    low, high = _interval(tasks, value, 0.0, 2)
    error = sum(((high or 0) - (low or 0)) ** 2 for low, high in ends) ** 0.5 / len(tasks) / 2 / quantile_for(None)
    p = float(2 * norm.sf(abs(value) / error)) if error else float(value == 0)
    return replace(found, low=low, high=high, test=NORMAL, p=p, detectable=detectable(error, alpha))


def _p_of(value: float, error: float, groups: int) -> float:
    """The two-sided p of a mean whose samples are not paired."""
    return float(2 * t.sf(abs(value) / error, groups - 1)) if error else float(value == 0)


def _by_group(compared: Sequence[Compared]) -> tuple[Floats, Floats, bool] | None:
    """What each group of samples adds to the mean, and to its error; None where one place does not say."""
    parts: dict[str, float] = defaultdict(float)
    errors: dict[str, float] = defaultdict(float)
    paired = True
    for each in compared:
        if each.parts is None:
            return None
        for part in each.parts:
            paired = paired and part.is_paired
            for name, of_difference, of_error in zip(part.groups, part.parts, part.errors, strict=True):
                parts[name] += _advantage(each.task, of_difference) / len(compared)
                errors[name] += _advantage(each.task, of_error) / len(compared)
    names = sorted(parts)
    return np.array([parts[name] for name in names]), np.array([errors[name] for name in names]), paired


def _interval(tasks: Sequence[TaskComparison], value: float, error: float, groups: int) -> tuple[float, float]:
    """The wider one of two to each side: of the groups' errors, and of the places' own intervals.

    The places' intervals are put together as those of independent numbers (MOVER, Zou and Donner 2008), which is
    honest where hardly anything varies; the groups' errors know what places have in common.
    """
    reach = quantile_for(groups) * error
    below = above = 0.0
    for task in tasks:
        if task.low is None or task.high is None:
            continue
        ends = sorted((_advantage(task, task.low), _advantage(task, task.high)))
        middle = _advantage(task, task.difference)
        below += ((middle - ends[0]) / len(tasks)) ** 2
        above += ((ends[1] - middle) / len(tasks)) ** 2
    return value - max(reach, math.sqrt(below)), value + max(reach, math.sqrt(above))


def _advantage(task: TaskComparison, difference: float) -> float:
    """A difference as an advantage of A."""
    return difference if task.higher_is_better else -difference
