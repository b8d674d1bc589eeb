"""Which samples of two runs are the same, and what each scored on them, as numbers that can be added.

A metric is a sum over a sum: of scores over samples, of log-likelihoods over words or bytes. `Term` holds both for
each sample, so that a share, a mean and a perplexity are compared by the same code.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.analysis.intervals import Floats
from harness.records.samples import Sample
from tasks.metrics import Unit

Way = Literal["sample", "prompt"]
MOST_NATS = 600.0
"""A word or byte of a perplexity, beyond which all are one: their differences and errors are still numbers."""
MOST_KEPT = 512
"""Tasks whose clusters are kept for the next pair of models, which has them again."""
MOST_OTHER_TOKENIZER = 0.9
"""Of the smaller side's samples: with other tokenizers, fewer common ones are those that no tokenizer has cut."""


@dataclass(frozen=True, slots=True)
class Term:
    """What one sample, or one group that is scored together, adds to a metric.

    Attributes:
        key: what it has in common with the same sample of another run.
        cluster: equal for samples that share text.
        value: what it adds to the sum above: a score, or nats or bits of a text.
        weight: what it adds to the sum below: 1, or words or bytes of a text.
    """

    key: str
    cluster: str
    value: float
    weight: float


class KeyedTerms(dict[str, Term]):
    """The terms of a run's samples of one task by key, and as arrays, which all pairs of models have in common."""

    @cached_property
    def arrays(self) -> TermArrays:
        """All of them, in the order in which pairs have them."""
        ordered = sorted(self.items(), key=lambda item: item[1].key)
        return TermArrays(
            keys=tuple(key for key, _ in ordered),
            values=np.array([term.value for _, term in ordered], float),
            weights=np.array([term.weight for _, term in ordered], float),
            clusters=tuple(term.cluster for _, term in ordered),
        )


@dataclass(frozen=True)
class TermArrays:
    """Terms, attribute by attribute.

    Attributes:
        keys: by which they are found.
        values: of each.
        weights: likewise.
        clusters: likewise.
    """

    keys: tuple[str, ...]
    values: Floats
    weights: Floats
    clusters: tuple[str, ...]


TermsBy = Callable[[Way], KeyedTerms]
"""The terms of a run's samples of one task, as `terms` has them."""


@dataclass(frozen=True)
class Pairs:
    """The samples that two runs have in common.

    Attributes:
        way: which hash they were paired by.
        a: values of A's terms.
        b: values of B's.
        weights: of both.
        clusters: of both, the name of each.
        only_a: samples that only A has.
        only_b: samples that only B has.
        unscored: common samples that one of them has no finite score for.
    """

    way: Way
    a: Floats
    b: Floats
    weights: Floats
    clusters: Sequence[str]
    only_a: int
    only_b: int
    unscored: int

    def exchanged(self) -> Pairs:
        """The same with A and B exchanged."""
        return Pairs(self.way, self.b, self.a, self.weights, self.clusters, self.only_b, self.only_a, self.unscored)


def pair(a: TermsBy, b: TermsBy) -> Pairs | None:
    """Pair the samples of two runs of one task by their content, or else by what was asked.

    Args:
        a: gives the terms of one run.
        b: those of the other, of the same metric.

    Returns:
        The common samples; None where there is none.
    """
    ways: tuple[Way, ...] = ("sample", "prompt")
    for way in ways:
        of_a, of_b = a(way), b(way)
        if (pairs := _paired_alike(way, of_a.arrays, of_b.arrays)) is not None:
            return pairs
        if common := [key for key in of_a if key in of_b]:
            return _paired(way, of_a, of_b, common)
    return None


def terms(samples: Sequence[Sample], metric: str, unit: Unit, way: Way = "sample") -> KeyedTerms:
    """Make the terms of a run's samples, by key; equal samples of one run are told apart by their order.

    Args:
        samples: of one task.
        metric: one of their scores; samples without it are left out, those that could not be scored are not a number.
        unit: of the metric.
        way: which hash is the key.
    """
    seen: Counter[str] = Counter()
    found = KeyedTerms()
    for term in _terms(samples, metric, unit, way):
        seen[term.key] += 1
        key = f"{term.key}/{seen[term.key]}"
        found[key] = term
    return found


def estimate(values: Floats, weights: Floats, unit: Unit) -> float:
    """Give the metric of these terms, in its unit."""
    ratio = float(values.sum() / weights.sum())
    if unit != "perplexity":
        return ratio
    return math.exp(min(ratio, MOST_NATS))


def total(found: TermArrays, unit: Unit) -> float | None:
    """Give the metric of terms, less those that could not be scored; None where that leaves none."""
    scored = np.isfinite(found.values)
    return estimate(found.values[scored], found.weights[scored], unit) if scored.any() else None


def _paired_alike(way: Way, a: TermArrays, b: TermArrays) -> Pairs | None:
    """Pair two runs of the same samples, all scored and of the same weights; None for others."""
    if not a.keys or a.keys != b.keys or not np.array_equal(a.weights, b.weights):
        return None
    if not (np.isfinite(a.values).all() and np.isfinite(b.values).all()):
        return None
    return Pairs(way, a.values, b.values, a.weights, _coarser(a.clusters, b.clusters), 0, 0, 0)


def _paired(way: Way, of_a: Mapping[str, Term], of_b: Mapping[str, Term], common: Sequence[str]) -> Pairs:
    both = [(of_a[key], of_b[key]) for key in common]
    scored = [
        (one, other)
        for one, other in both
        if math.isfinite(one.value) and math.isfinite(other.value) and math.isclose(one.weight, other.weight)
    ]
    scored.sort(key=lambda pair: pair[0].key)
    return Pairs(
        way=way,
        a=np.array([one.value for one, _ in scored], float),
        b=np.array([other.value for _, other in scored], float),
        weights=np.array([one.weight for one, _ in scored], float),
        clusters=_coarser(tuple(one.cluster for one, _ in scored), tuple(other.cluster for _, other in scored)),
        only_a=len(of_a) - len(common),
        only_b=len(of_b) - len(common),
        unscored=len(both) - len(scored),
    )


def grouped(clusters: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    """Number clusters: their names in order, and of each sample which it is in."""
    return _grouped(tuple(clusters))


@lru_cache(maxsize=MOST_KEPT)
def _grouped(clusters: tuple[str, ...]) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    names, inverse = np.unique(np.array(clusters, str), return_inverse=True)
    return tuple(names.tolist()), inverse


def _coarser(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    """The clusters of the side that knows more samples to share text; a plain run of lm-eval knows of fewer."""
    return a if a == b else min(a, b, key=lambda names: (len(set(names)), *sorted(set(names))[:1]))


def _terms(samples: Sequence[Sample], metric: str, unit: Unit, way: Way) -> Iterator[Term]:
    together: dict[float, list[tuple[Sample, float]]] = {}
    for sample in samples:
        if metric not in sample.scores:
            continue
        score = sample.scores[metric]
        key = sample.sample if way == "sample" else sample.prompt
        if not isinstance(score, (tuple, list)):
            value = math.nan if score is None else float(score)
            yield Term(key, sample.cluster, *_in_unit(value, 1.0, unit))
        elif unit in ("perplexity", "bits"):
            yield Term(key, sample.cluster, *_in_unit(score[0], score[1], unit))
        else:  # (number of the pair, right): right if both documents of the pair are
            together.setdefault(score[0], []).append((sample, score[1]))
    for rows in together.values():
        if len(rows) == 2:
            keys = [row.sample if way == "sample" else row.prompt for row, _ in rows]
            yield Term("+".join(keys), rows[0][0].cluster, min(right for _, right in rows), 1.0)


def _in_unit(value: float, weight: float, unit: Unit) -> tuple[float, float]:
    """A log-likelihood as what its metric grows by: nats of a perplexity, bits of bits per byte."""
    if unit == "perplexity":
        return -value, weight
    return (-value / math.log(2), weight) if unit == "bits" else (value, weight)
