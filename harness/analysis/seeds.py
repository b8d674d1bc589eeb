"""Trainings with several seeds: the seeds are what was drawn, so the test is over them, never over samples alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import t

from harness.analysis.comparison import MeanComparison, TaskComparison
from harness.analysis.power import POWER
from harness.analysis.sides import GridPlace, Side
from harness.analysis.significance import REJECTED, holding_zero, welch
from harness.records.seed_rows import LEAST_SEEDS
from tasks.families import unit_of
from tasks.metrics import Unit

OVER_SEEDS = "Welch over seeds"
TOO_FEW = f"none: fewer than {LEAST_SEEDS} seeds on a side, so nothing can be concluded"


def compare_seeds(a: Side, b: Side, at: GridPlace, alpha: float) -> TaskComparison:
    """Compare two trainings at a place: the means of their seeds, by the spread over seeds.

    Args:
        a: a training; a single model or a published row is one seed.
        b: the other.
        at: a place that all their seeds have.
        alpha: the level of the smallest difference that could have been found.
    """
    of_a, of_b = seed_values(a, at), seed_values(b, at)
    shown = next(shown for side in (*a.members(), *b.members()) if (shown := side.shown(at)) is not None)
    return TaskComparison(
        place=at.place,
        unit=unit_of(at.place.metric),
        higher_is_better=shown.score.higher_is_better,
        n_a=len(of_a),
        n_b=len(of_b),
        pairing="seeds",
        seeds_a=of_a,
        seeds_b=of_b,
        **compare_values(of_a, of_b, alpha),
    )


def compare_means_of_seeds(
    label: str, tasks: Sequence[TaskComparison], value: float, unit: Unit, alpha: float
) -> MeanComparison:
    """Compare two trainings over places: each seed's mean is one number."""
    signs = [1 if task.higher_is_better else -1 for task in tasks]
    of_a, of_b = (
        tuple(
            sum(sign * seeds[place] for sign, seeds in zip(signs, columns, strict=True)) / len(tasks)
            for place in range(min(map(len, columns)))
        )
        for columns in ([task.seeds_a for task in tasks], [task.seeds_b for task in tasks])
    )
    found = compare_values(of_a, of_b, alpha)
    return MeanComparison(
        label=label,
        places=len(tasks),
        difference=value,
        low=found.get("low"),
        high=found.get("high"),
        unit=unit,
        test=found["test"],
        p=found.get("p"),
        detectable=found.get("detectable"),
        n_a=len(of_a),
        n_b=len(of_b),
        seeds_a=of_a,
        seeds_b=of_b,
    )


def compare_values(a: Sequence[float], b: Sequence[float], alpha: float) -> dict[str, Any]:
    """Compare the values of seeds.

    Args:
        a: a value for each seed of A.
        b: of B.
        alpha: the level of the smallest difference that could have been found.

    Returns:
        Fields of a `TaskComparison`, without a test where there are fewer than three seeds on a side.
    """
    found: dict[str, Any] = {"a": float(np.mean(a)), "b": float(np.mean(b)), "test": TOO_FEW}
    if min(len(a), len(b)) < LEAST_SEEDS:
        return found
    variances = float(np.var(a, ddof=1)) / len(a), float(np.var(b, ddof=1)) / len(b)
    p, low, high = welch(found["a"] - found["b"], variances, (len(a), len(b)))
    if not any(variances):  # all seeds alike on both sides: only how they can be dealt says how sure that is
        p = permutation(a, b)
        low, high = holding_zero((low, high)) if p > REJECTED else (low, high)
        return found | {"test": "permutation of seeds, exact", "p": p, "low": low, "high": high}
    degrees = len(a) + len(b) - 2
    smallest = float(t.isf(alpha / 2, degrees) + t.ppf(POWER, degrees)) * math.sqrt(sum(variances))
    return found | {"test": OVER_SEEDS, "p": p, "low": low, "high": high, "detectable": smallest}


def seed_values(side: Side, at: GridPlace) -> tuple[float, ...]:
    """The number of each seed of a side at a place."""
    if at.place in side.figures:
        return (side.figures[at.place].value,)
    return tuple(shown.score.value for member in side.members() if (shown := member.shown(at)) is not None)


def permutation(a: Sequence[float], b: Sequence[float]) -> float:
    """Give the exact two-sided p of the difference of means: of all ways to deal the seeds to both sides."""
    values = np.array([*a, *b])
    observed = abs(np.mean(a) - np.mean(b)) - 1e-12
    ways = list(combinations(range(len(values)), len(a)))
    total = values.sum()
    sums = np.array([values[list(way)].sum() for way in ways])
    return float((np.abs(sums / len(a) - (total - sums) / len(b)) >= observed).mean())
