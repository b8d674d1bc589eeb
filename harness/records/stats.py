"""Intervals of scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z95 = 1.959963984540054  # the two-sided 95 % quantile of a normal distribution


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927): honest at 0 % and 100 %, where mean +- error is not.

    Raises:
        ValueError: n is not positive, or successes not within 0 and n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes must lie within 0 and n, and n be positive; got {successes} of {n}")
    share = successes / n
    centre = share + Z95**2 / (2 * n)
    spread = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    scale = 1 + Z95**2 / n
    # At the ends the formula is exactly 0 or 1; rounding must not push it outside.
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == n else (centre + spread) / scale
    return low, high


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of a mean of scores between 0 and 1.

    Wilson's for scores of 0 and 1, else the mean and 1.96 standard errors to both sides, cut to [0, 1]. None for fewer
    than two values that are not all 0 or 1.
    """
    n = len(values)
    if n and all(value in (0, 1) for value in values):
        return wilson_interval(int(sum(values)), n)
    if n < 2:
        return None
    mean = sum(values) / n
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
    return max(0.0, mean - Z95 * error), min(1.0, mean + Z95 * error)


def interval_over_seeds(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the mean of a few trainings, by Student's t: their spread is as uncertain as they are few.

    None for fewer than two values. It is not cut to what the values can be.
    """
    from scipy.stats import t

    n = len(values)
    if n < 2:
        return None
    mean = sum(values) / n
    reach = float(t.ppf(0.975, n - 1)) * math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
    return mean - reach, mean + reach


def ratio_interval(pairs: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """95 % interval of sum(x) / sum(y) over documents, by the linearised standard error of a ratio.

    Documents are what was drawn, so they are the unit: tokens of one document are not independent. None for fewer
    than two documents.
    """
    n, total = len(pairs), sum(y for _, y in pairs)
    if n < 2 or total <= 0:
        return None
    ratio = sum(x for x, _ in pairs) / total
    error = math.sqrt(sum((x - ratio * y) ** 2 for x, y in pairs) * n / (n - 1)) / total
    return ratio - Z95 * error, ratio + Z95 * error
