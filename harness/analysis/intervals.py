"""Intervals of a difference: of paired and of unpaired proportions, and of ratios over groups of samples."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import norm, t

LEVEL = 0.95
DRAWS = 4000
"""Of a bootstrap: its 2.5 % ends then move by a hundredth of the interval from seed to seed."""
MOST_KEPT = 500
"""Groups up to which draws are kept for the next pair: 4 MB of them at most."""
MOST_READY = 125
"""Groups up to which they are kept as the numbers that are multiplied, which take four times the memory."""
SQUARED = 1e90
"""Numbers up to which the cubes of many can be summed."""
Floats = NDArray[np.float64]


@lru_cache(maxsize=1024)
def quantile_for(groups: int | None) -> float:
    """How many standard errors an interval reaches to each side.

    Args:
        groups: independent groups that the standard error was estimated from; None where a score interval needs no
            such estimate.
    """
    if groups is None:
        return float(norm.ppf(0.5 + LEVEL / 2))
    return float(t.ppf(0.5 + LEVEL / 2, max(groups - 1, 1)))


def wilson(share: float, n: float, z: float) -> tuple[float, float]:
    """Give Wilson's interval of a share of n samples; n may be an effective number, so it need not be whole."""
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(max(share * (1 - share) / n + z * z / (4 * n * n), 0.0))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def paired_difference(
    both: float, only_a: float, only_b: float, neither: float, z: float | None = None
) -> tuple[float, float]:
    """Give the 95 % interval of the difference of two paired shares, A - B.

    Newcombe's method 10 (Statistics in Medicine 17, 1998, 2635-2650): Wilson's limits of both shares, put together
    with the correlation of the pairs. It is honest for few samples, and at 0 and 100 %.

    Args:
        both: samples that both have right.
        only_a: that only A has right.
        only_b: that only B has right.
        neither: that nobody has right. The four may be effective numbers.
        z: standard errors to each side; by default 1.96.
    """
    n = both + only_a + only_b + neither
    z = quantile_for(None) if z is None else z
    share_a, share_b = (both + only_a) / n, (both + only_b) / n
    (low_a, high_a), (low_b, high_b) = wilson(share_a, n, z), wilson(share_b, n, z)
    phi = _correlation(both, only_a, only_b, neither)

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(one * one - 2 * phi * one * other + other * other, 0.0))

    difference = share_a - share_b
    low = difference - reach(share_a - low_a, high_b - share_b)
    high = difference + reach(high_a - share_a, share_b - low_b)
    return max(-1.0, low), min(1.0, high)


def unpaired_difference(share_a: float, n_a: float, share_b: float, n_b: float) -> tuple[float, float]:
    """Give the 95 % interval of the difference of two shares of different samples, A - B.

    Newcombe's hybrid score method (method 10 of Statistics in Medicine 17, 1998, 873-890).
    """
    z = quantile_for(None)
    (low_a, high_a), (low_b, high_b) = wilson(share_a, n_a, z), wilson(share_b, n_b, z)
    difference = share_a - share_b
    low = difference - math.hypot(share_a - low_a, high_b - share_b)
    high = difference + math.hypot(high_a - share_a, share_b - low_b)
    return low, high


def bootstrap(
    sums: Floats, statistic: Callable[[Floats], Floats], seed: int, draws: int = DRAWS
) -> tuple[float, float] | None:
    """Give the 95 % interval of a statistic of groups: bias-corrected and accelerated bootstrap (Efron 1987).

    Its quantiles lie as far out as Student's distribution says (Hesterberg 2015): few groups vary too little.

    Args:
        sums: what each group adds to each of the sums that the statistic is made of, [groups, sums].
        statistic: from sums of a draw to its value, [draws, sums] to [draws]. Exchanging A and B changes its sign.
        seed: of the draws.
        draws: how many there are.

    Returns:
        The two ends; None for fewer than two groups.
    """
    groups = len(sums)
    if groups < 2:
        return None
    found = np.concatenate([statistic(times.astype(float, copy=False) @ sums) for times in _drawn(groups, seed, draws)])
    total = sums.sum(axis=0)
    value = float(statistic(total[None])[0])
    if not np.isfinite(found).all():
        return None
    if np.allclose(found, value, rtol=1e-12, atol=1e-15):
        return value, value
    below = (np.count_nonzero(found < value) + np.count_nonzero(found <= value)) / 2 / draws
    bias = float(ndtri(min(max(below, 1 / draws), 1 - 1 / draws)))
    without = within_squares(statistic(total[None] - sums))[0]
    apart = without.mean() - without
    spread = float((apart**2).sum())
    acceleration = float((apart**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    places = []
    reach = quantile_for(groups) * math.sqrt(groups / (groups - 1))
    for z in (-reach, reach):
        moved = bias + (bias + z) / (1 - acceleration * (bias + z))
        places.append(float(ndtr(moved)))
    low, high = np.quantile(found, places)
    return float(low), float(high)


def _drawn(groups: int, seed: int, draws: int) -> Iterable[NDArray[np.number]]:
    """How often each draw has each group, [some draws, groups] at a time."""
    if groups <= MOST_KEPT:
        yield _kept_draws(groups, seed, draws)
        return
    rng = np.random.default_rng(seed)
    step = max(1, 4_000_000 // groups)
    for start in range(0, draws, step):
        yield rng.multinomial(groups, np.full(groups, 1 / groups), size=min(step, draws - start))


@lru_cache(maxsize=32)
def _kept_draws(groups: int, seed: int, draws: int) -> NDArray[np.number]:
    """All draws of few groups: every pair of models that have the same samples has the same ones."""
    rng = np.random.default_rng(seed)
    found = rng.multinomial(groups, np.full(groups, 1 / groups), size=draws)
    return found.astype(float if groups <= MOST_READY else np.uint16)


def within_squares(values: Floats) -> tuple[Floats, float]:
    """Give numbers whose powers and sums are finite, and by what they were divided: perplexities may be near 1e304."""
    most = float(np.abs(values).max(initial=0.0))
    by = 1.0 if most < SQUARED else most
    return values / by, by


def seed_from(names: Iterable[str]) -> int:
    """Make a seed of names, whatever their order: so the same samples always give the same interval."""
    return int.from_bytes(hashlib.sha256("\n".join(sorted(names)).encode()).digest()[:8], "big")


def _correlation(both: float, only_a: float, only_b: float, neither: float) -> float:
    """The correlation of the pairs, with Newcombe's correction for continuity; 0 where a margin is empty."""
    n = both + only_a + only_b + neither
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    if margins <= 0:
        return 0.0
    product = both * neither - only_a * only_b
    if product > 0:
        product = max(product - n / 2, 0.0)
    return product / math.sqrt(margins)
