"""Tests of a difference, all exact or nearly so, none with random draws; and what corrects many of them together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.stats import fisher_exact, norm, t

from harness.analysis.intervals import Floats

STEPS = 40_000
"""Of the grid on which sign flips of numbers that are not whole are added."""
MOST_KEPT = 2_000
"""Sum of whole numbers up to which a distribution is kept: 8 MB of them at most."""
MOST_EXACT = 5_000
"""Groups up to which they are; beyond, their sum is as good as normal."""
REJECTED = 0.05
"""p up to which a 95 % interval leaves a difference out."""
MOST_MOVED = 500
"""Groups up to which the end of an interval is searched by the exact test."""
HALVINGS = 12
"""Of that search."""


def sign_flip(differences: Floats) -> float:
    """Give the two-sided p of the test that flips the sign of each group's difference.

    If A and B are alike, a group could as well have had them exchanged. All 2^groups exchanges are counted, by adding
    the groups one by one to the distribution of the sum (Pagano and Tritchler 1983). For right and wrong answers that
    share no text it is McNemar's exact test. Differences that are not whole numbers are rounded to a grid first, which
    keeps the test exact: it moves what is summed by less than a hundredth of its spread.

    Args:
        differences: A's sum less B's of each group of samples that share text.
    """
    found = differences[differences != 0]
    if not len(found):
        return 1.0
    whole = np.rint(found)
    if not (np.abs(found - whole) < 1e-9).all() or np.abs(whole).sum() > STEPS:
        if len(found) > MOST_EXACT:
            return float(2 * norm.sf(abs(found.sum()) / math.sqrt(float((found**2).sum()))))
        whole = np.rint(found * (STEPS / np.abs(found).sum()))
    sizes = np.sort(np.abs(whole[whole != 0]).astype(int))
    total = int(sizes.sum())
    chances = _kept_chances(tuple(sizes.tolist())) if total <= MOST_KEPT else _chances(sizes.tolist())
    sums = np.abs(2 * np.arange(total + 1) - total)
    return float(min(1.0, chances[sums >= abs(int(whole.sum()))].sum()))


def _chances(sizes: Sequence[int]) -> Floats:
    """How likely each sum of the groups that keep their sign is, from 0 to the sum of all.

    Args:
        sizes: of the groups, from the smallest to the largest.
    """
    chances = np.zeros(sum(sizes) + 1)
    chances[0] = 1.0
    reached = 0
    for size in sizes:
        chances[size : reached + size + 1] += chances[: reached + 1].copy()
        reached += size
        chances[: reached + 1] *= 0.5
    return chances


@lru_cache(maxsize=512)
def _kept_chances(sizes: tuple[int, ...]) -> Floats:
    """The same for the next pair of models: right and wrong answers disagree in as many ways as there are samples."""
    return _chances(sizes)


def agreeing(
    interval: tuple[float, float], difference: float, p: float, parts: Floats, weights: Floats
) -> tuple[float, float]:
    """Make an interval say of 0 what the sign flips say of it, by the end that lies towards 0.

    Where the test does not reject 0, the interval holds it. Where the test does and the interval holds it, the end
    becomes the smallest difference that the test does not reject: every group's part less its share of that difference
    has its sign flipped instead.

    Args:
        interval: at 95 %.
        difference: what it is of.
        p: of the sign flips of the parts.
        parts: what each group adds to the difference, in any unit.
        weights: what each group adds to a difference of 1 in that unit.
    """
    low, high = interval
    if p > REJECTED:
        return holding_zero(interval)
    if low > 0 or high < 0 or difference == 0:
        return interval
    end = difference * _least_share(parts, weights)
    return (end, high) if difference > 0 else (low, end)


def holding_zero(interval: tuple[float, float]) -> tuple[float, float]:
    """Widen an interval until it holds 0."""
    return min(interval[0], 0.0), max(interval[1], 0.0)


def _least_share(parts: Floats, weights: Floats) -> float:
    """The smallest share of the difference found that the sign flips do not reject; above 0, at most 1."""
    step, total = weights / weights.sum() * parts.sum(), float(parts.sum())
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        moved = parts - middle * step
        if len(moved) > MOST_MOVED:
            p = float(2 * norm.sf(abs(total * (1 - middle)) / math.sqrt(float((moved**2).sum()))))
        else:
            p = sign_flip(moved)
        low, high = (middle, high) if p <= REJECTED else (low, middle)
    return high


def fisher(right_a: int, n_a: int, right_b: int, n_b: int) -> float:
    """Give Fisher's exact two-sided p for right answers to different samples."""
    return float(fisher_exact([[right_a, n_a - right_a], [right_b, n_b - right_b]]).pvalue)


def welch(difference: float, variances: tuple[float, float], counts: tuple[int, int]) -> tuple[float, float, float]:
    """Give Welch's two-sided p of a difference of means, with its 95 % interval.

    Args:
        difference: of the means.
        variances: of each mean: the squared standard errors.
        counts: values, or independent groups of them, that each was estimated from; at least two.

    Returns:
        p and the ends of the interval; without any spread p is 1 for no difference, else 0.
    """
    error = math.sqrt(sum(variances))
    if error == 0:
        return (1.0 if difference == 0 else 0.0), difference, difference
    parts = [variance**2 / (count - 1) for variance, count in zip(variances, counts, strict=True)]
    degrees = sum(variances) ** 2 / sum(parts)
    reach = float(t.ppf(0.975, degrees)) * error
    return float(2 * t.sf(abs(difference) / error, degrees)), difference - reach, difference + reach


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Correct p values that are looked at together (Holm 1979): the chance of any false finding stays at the level.

    Args:
        values: p values; None where nothing was tested, which stays None.
    """
    tested = sorted((value, place) for place, value in enumerate(values) if value is not None)
    corrected: list[float | None] = [None] * len(values)
    least = 0.0
    for rank, (value, place) in enumerate(tested):
        least = max(least, min(1.0, value * (len(tested) - rank)))
        corrected[place] = least
    return corrected
