"""The smallest difference that a comparison would have found in four cases of five."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.stats import binom, norm

POWER = 0.8


@lru_cache(maxsize=4096)
def detectable_share(n: int, discordant: float, alpha: float) -> float | None:
    """Find the smallest difference of two paired shares that McNemar's exact test would find with a power of 80 %.

    How much a difference shows depends on how often the two disagree at all. They are taken to disagree as often as
    they did here, or, if that is not enough for the difference, on as many samples as make the difference, all of them
    one way.

    Args:
        n: samples, or as many independent ones as they are worth.
        discordant: share of samples on which the two disagree.
        alpha: the level of the test.

    Returns:
        The difference; None where not even a difference of 1 would be found.
    """
    if _power(n, 1.0, 1.0, alpha) < POWER:
        return None
    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        found = _power(n, max(discordant, middle), middle, alpha) >= POWER
        low, high = (low, middle) if found else (middle, high)
    return high


def detectable(error: float, alpha: float) -> float | None:
    """Find the smallest difference with a power of 80 %, given the standard error of the difference.

    Returns:
        The difference; None for an error of 0, by which any difference at all would be found.
    """
    if error == 0:
        return None
    return _errors(alpha) * error


@lru_cache(maxsize=64)
def _errors(alpha: float) -> float:
    """How many standard errors such a difference has."""
    return float(norm.isf(alpha / 2) + norm.ppf(POWER))


def _power(n: int, discordant: float, difference: float, alpha: float) -> float:
    """The chance that McNemar's exact test finds a difference."""
    counts = np.arange(int(binom.ppf(1e-6, n, discordant)), int(binom.isf(1e-6, n, discordant)) + 1)
    least = binom.isf(alpha / 2, counts, 0.5) + 1  # wins from which on P(wins or more) is at most alpha / 2
    wins = min((discordant + difference) / (2 * discordant), 1.0)
    return float((binom.pmf(counts, n, discordant) * binom.sf(least - 1, counts, wins)).sum())
