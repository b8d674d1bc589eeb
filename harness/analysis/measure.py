"""Two models at one place: difference, interval, test. Paired where samples are common, else as two groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.analysis.intervals import (
    Floats,
    bootstrap,
    paired_difference,
    quantile_for,
    seed_from,
    unpaired_difference,
    within_squares,
)
from harness.analysis.pairing import MOST_NATS, Pairs, Term, estimate, grouped
from harness.analysis.power import detectable, detectable_share
from harness.analysis.significance import REJECTED, agreeing, fisher, holding_zero, sign_flip, welch
from harness.records.record import Score
from harness.records.stats import Z95
from tasks.metrics import Unit

McNEMAR, FLIPS, FLIPS_BY_TEXT = "McNemar, exact", "sign flips", "sign flips by text"
FISHER, WELCH = "Fisher, exact", "Welch"


@dataclass(frozen=True)
class Contribution:
    """What each group of samples adds to a difference, for means over places.

    Attributes:
        groups: names; those that several places have are one group.
        parts: of the difference, which is their sum.
        errors: the same less what was to be expected: their squares make the variance.
        weights: of each group at this place; they add up to 1.
        is_paired: whether exchanging A and B changes the sign of a part.
    """

    groups: tuple[str, ...]
    parts: Floats
    errors: Floats
    weights: Floats
    is_paired: bool


@dataclass(frozen=True)
class Group:
    """One side's number where samples are not paired.

    Attributes:
        value: in its unit.
        n: samples; for a share as many independent ones as they are worth.
        error: its standard error; None where that is not known.
        groups: independent groups behind the error.
        is_share_of_right: whether it is a share of right answers.
    """

    value: float
    n: int
    error: float | None
    groups: int
    is_share_of_right: bool


def compare_pairs(
    pairs: Pairs, unit: Unit, higher_is_better: bool, alpha: float
) -> tuple[dict[str, Any], Contribution]:
    """Compare two models on the samples that both have.

    Args:
        pairs: at least one.
        unit: of the metric.
        higher_is_better: which way is better.
        alpha: the level of the smallest difference that could have been found.

    Returns:
        Fields of a `TaskComparison`, and what each group adds to the difference.
    """
    n = len(pairs.a)
    names, inverse = grouped(pairs.clusters)
    sums = np.zeros((len(names), 3))
    np.add.at(sums, inverse, np.stack([pairs.a, pairs.b, pairs.weights], axis=1))
    differences, total = sums[:, 0] - sums[:, 1], float(pairs.weights.sum())
    change = float(differences.sum()) / total
    errors = (differences - change * sums[:, 2]) / total
    is_right = unit == "share" and bool((((pairs.a == 0) | (pairs.a == 1)) & ((pairs.b == 0) | (pairs.b == 1))).all())
    interval: tuple[float, float] | None
    smallest: float | None
    if is_right:
        interval, smallest = _of_right(pairs, differences, errors, alpha, sums[:, 2])
    else:
        interval, smallest = _of_scores(sums, names, unit, alpha)
    p = sign_flip(differences)
    if interval is not None:
        interval = agreeing(interval, float(_difference(sums.sum(axis=0)[None], unit)[0]), p, differences, sums[:, 2])
    better = np.sign(pairs.a - pairs.b) * (1 if higher_is_better else -1)
    wins, losses = int((better > 0).sum()), int((better < 0).sum())
    by_text = len(names) < n
    found = {
        "a": estimate(pairs.a, pairs.weights, unit),
        "b": estimate(pairs.b, pairs.weights, unit),
        "low": interval[0] if interval else None,
        "high": interval[1] if interval else None,
        "n_a": n,
        "n_b": n,
        "groups": len(names),
        "wins": wins,
        "losses": losses,
        "ties": n - wins - losses,
        "only_a": pairs.only_a,
        "only_b": pairs.only_b,
        "unscored": pairs.unscored,
        "pairing": pairs.way,
        "test": FLIPS_BY_TEXT if by_text else McNEMAR if is_right else FLIPS,
        "p": p,
        "detectable": smallest,
    }
    return found, Contribution(names, differences / total, errors, sums[:, 2] / total, True)


def compare_groups(a: Group, b: Group, unit: Unit, alpha: float) -> dict[str, Any]:
    """Compare two numbers that come from different samples.

    Returns:
        Fields of a `TaskComparison`, without a test where an error is not known.
    """
    found: dict[str, Any] = {"a": a.value, "b": b.value, "n_a": a.n, "n_b": b.n, "test": "none: no standard error"}
    if a.is_share_of_right and b.is_share_of_right:
        low, high = unpaired_difference(a.value, a.n, b.value, b.n)
        shared = (a.value * a.n + b.value * b.n + 1) / (a.n + b.n + 2)
        error = math.sqrt(shared * (1 - shared) * (1 / a.n + 1 / b.n))
        p = fisher(round(a.value * a.n), a.n, round(b.value * b.n), b.n)
        low, high = holding_zero((low, high)) if p > REJECTED else (low, high)
        return found | {"low": low, "high": high, "test": FISHER, "p": p, "detectable": detectable(error, alpha)}
    if a.error is None or b.error is None or min(a.groups, b.groups) < 2:
        return found
    p, low, high = welch(a.value - b.value, (a.error**2, b.error**2), (a.groups, b.groups))
    if unit == "share":
        low, high = max(low, -1.0), min(high, 1.0)
    smallest = detectable(math.hypot(a.error, b.error), alpha)
    return found | {"low": low, "high": high, "test": WELCH, "p": p, "detectable": smallest}


def group_of_terms(terms: Sequence[Term], unit: Unit) -> tuple[Group, Contribution] | None:
    """Make one side's number of its samples; None without a finite score."""
    scored = [term for term in terms if math.isfinite(term.value)]
    if not scored:
        return None
    values = np.array([term.value for term in scored])
    weights = np.array([term.weight for term in scored])
    names, inverse = grouped([term.cluster for term in scored])
    sums = np.zeros((len(names), 2))
    np.add.at(sums, inverse, np.stack([values, weights], axis=1))
    ratio, total = float(values.sum() / weights.sum()), float(weights.sum())
    errors = (sums[:, 0] - ratio * sums[:, 1]) / total
    is_right = unit == "share" and bool(((values == 0) | (values == 1)).all())
    value = estimate(values, weights, unit)
    count = len(scored)
    if is_right:
        count = max(1, int(count / _design(errors, ratio * (1 - ratio) / count, sums[:, 1])))
    error = _error(errors) * (value if unit == "perplexity" else 1) if len(names) > 1 else None
    parts, shares = sums[:, 0] / total, sums[:, 1] / total
    group = Group(value, count, error, len(names), is_right)
    return group, Contribution(names, parts, errors, shares, False)


def group_of_score(score: Score) -> Group:
    """Make one side's number of what a record says, for want of its samples.

    A share is taken to be one of right answers to samples without common text, whose variance is the largest that
    scores from 0 to 1 can have; the error of anything else comes from its interval.
    """
    error = None
    if score.low is not None and score.high is not None:
        error = (score.high - score.low) / 2 / Z95
    return Group(score.value, score.n, error, score.n, score.unit == "share")


def _of_right(
    pairs: Pairs, differences: Floats, errors: Floats, alpha: float, sizes: Floats
) -> tuple[tuple[float, float], float | None]:
    """Interval and smallest difference of right and wrong answers, of as many samples as they are worth."""
    n = len(pairs.a)
    change = pairs.a - pairs.b
    alone = float(((change - change.mean()) ** 2).sum()) / n / n
    design = _design(errors, alone, sizes)
    only_a, only_b = float((change > 0).sum()), float((change < 0).sum())
    both = float(((pairs.a == 1) & (pairs.b == 1)).sum())
    neither = n - both - only_a - only_b
    z = quantile_for(len(differences) if len(differences) < n else None)
    interval = paired_difference(both / design, only_a / design, only_b / design, neither / design, z)
    return interval, detectable_share(max(1, int(n / design)), (only_a + only_b) / n, alpha)


def _of_scores(
    sums: Floats, names: Sequence[str], unit: Unit, alpha: float
) -> tuple[tuple[float, float] | None, float | None]:
    """Interval and smallest difference of graded scores and of texts: the wider one of two to each side.

    The bootstrap knows how skew a difference is, Student's interval how little a few groups vary.
    """
    drawn = bootstrap(sums, lambda draws: _difference(draws, unit), seed_from(names))
    if drawn is None:
        return None, None
    groups, error = len(names), _error(_curved(sums, unit))
    value = float(_difference(sums.sum(axis=0)[None], unit)[0])
    reach = quantile_for(groups) * error
    low, high = min(drawn[0], value - reach), max(drawn[1], value + reach)
    if unit == "share":
        least = 1 - 0.025 ** (1 / groups) if error == 0 else 0.0  # that nothing varies in n groups proves little
        low, high = max(-1.0, low - least), min(1.0, high + least)
    return (low, high), detectable(error, alpha)


def _design(errors: Floats, alone: float, sizes: Floats) -> float:
    """How many samples that share text are worth one that shares none (Kish's design effect), at least 1.

    Args:
        errors: of groups.
        alone: the variance that as many samples without common text would have.
        sizes: samples of each group, which say the most that it can be where nothing varies.
    """
    if len(errors) == sizes.sum():
        return 1.0
    if alone <= 0 or len(errors) < 2:
        return float((sizes**2).sum() / sizes.sum())
    return max(1.0, _error(errors) ** 2 / alone)


def _error(errors: Floats) -> float:
    """The standard error that groups' errors make."""
    groups = len(errors)
    small, by = within_squares(errors)
    return math.sqrt(float((small**2).sum()) * groups / max(groups - 1, 1)) * by


def _curved(sums: Floats, unit: Unit) -> Floats:
    """Groups' errors of the difference in the metric's unit, linearised."""
    a, b, weights = sums.T
    total = float(weights.sum())
    of_a, of_b = float(a.sum()) / total, float(b.sum()) / total
    slopes = (_exp(of_a), _exp(of_b)) if unit == "perplexity" else (1.0, 1.0)
    found: Floats = (slopes[0] * (a - of_a * weights) - slopes[1] * (b - of_b * weights)) / total
    return found


def _exp(value: float) -> float:
    return math.exp(min(value, MOST_NATS))


def _difference(sums: Floats, unit: Unit) -> Floats:
    """Of each draw the difference in the metric's unit."""
    ratios = sums[:, :2] / sums[:, 2:]
    if unit == "perplexity":
        ratios = np.exp(np.minimum(ratios, MOST_NATS))
    found: Floats = ratios[:, 0] - ratios[:, 1]
    return found
