"""What a study found: each model at its best rate, over seeds, and which differences are larger than their error.

The unit is the seed. Samples of one trained model say how well that model is known, not how well its architecture is,
so every interval and every test here is over seeds: Student's for a mean, Welch's for a difference (1947), corrected
over the whole table that the study asks for by Holm (1979).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.significance import holm, welch
from harness.records.stats import interval_over_seeds
from harness.study.results import StudyResults

LEVEL = 0.05
CAPACITY = 0.99
"""The accuracy up to which a number of pairs counts as held."""


@dataclass(frozen=True)
class Spread:
    """A number over seeds.

    Attributes:
        values: one a seed.
        mean: of them.
        reach: half the 95 % interval of the mean (Student's t), which may be longer than what there is to 0 or 1; None
            for a single seed.
        low: the interval's lower end, cut at 0.
        high: its upper end, cut at 1.
    """

    values: tuple[float, ...]
    mean: float
    reach: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """A model's accuracy less the reference's.

    Attributes:
        value: difference of the means.
        p: Welch's, None where a side has fewer than two seeds or neither varies.
        corrected: by Holm over all tests that the study asks for; None as p.
    """

    value: float
    p: float | None
    corrected: float | None

    @property
    def is_real(self) -> bool:
        """Whether it is larger than its error."""
        return self.corrected is not None and self.corrected < LEVEL


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """One model of a study.

    Attributes:
        name: in tables.
        rate: the best, None while it is not known.
        at_edge: whether it is the lowest or the highest of more than two, so that a better one may lie beyond it.
        losses: validation loss of each rate, mean over the seeds that choose; None for one that failed.
        parameters: of the whole model, and without embedding and head.
        state_floats: of all layers; None if the state grows.
        tests: by label.
        differences: from the reference, by label; empty for the reference itself.
        converged: seeds whose validation loss was flat at the end; None where it was looked at too seldom to say.
        seeds: that there are.
        seconds: of training and asking, mean over seeds.
    """

    name: str
    rate: float | None
    at_edge: bool
    losses: Mapping[float, float | None]
    parameters: tuple[int, int]
    state_floats: int | None
    tests: Mapping[str, Spread]
    differences: Mapping[str, Difference]
    converged: int | None
    seeds: int
    seconds: float


def summarise(results: StudyResults) -> list[ModelSummary]:
    """Sum up what there is; models without a finished run at their best rate are left out."""
    study = results.study
    trained = {model: found for model in study.models if (found := _at_best(results, model))}
    values = {model: _accuracies(found) for model, found in trained.items()}
    differences = _differences(values, study.reference, len(study.models))
    return [_summary(results, model, found, differences.get(model, {})) for model, found in trained.items()]


def capacity(summary: ModelSummary, tests: Sequence[Any], level: float = CAPACITY) -> int | None:
    """The largest number of pairs, plain recall, up to which every test is at least `level` on average.

    Where several tests have as many pairs, all of them count.

    Args:
        summary: of a model.
        tests: the study's kinds of rows, in the order of its file.
        level: the accuracy.

    Returns:
        The number; 0 if the smallest test is below, None if there is no plain recall among the tests.
    """
    plain = sorted((task.keys, task.label) for task in tests if getattr(task, "pairs", 0) == getattr(task, "keys", -1))
    if not plain:
        return None
    missed = {keys for keys, label in plain if label not in summary.tests or summary.tests[label].mean < level}
    return max((keys for keys, _ in plain if all(keys < least for least in missed)), default=0)


def spread(values: Sequence[float]) -> Spread:
    """The mean over seeds with its interval."""
    mean, found = sum(values) / len(values), interval_over_seeds(values)
    if found is None:
        return Spread(tuple(values), mean, None, None, None)
    return Spread(tuple(values), mean, (found[1] - found[0]) / 2, max(0.0, found[0]), min(1.0, found[1]))


def _at_best(results: StudyResults, model: str) -> list[dict[str, Any]]:
    rate = results.best_rate(model)
    if rate is None:
        return []
    seeds = range(1, results.study.seeds.count + 1)
    found = [results.result(model, rate, seed) for seed in seeds]
    return [result for result in found if result is not None and "tests" in result]


def _accuracies(found: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for result in found:
        for test in result["tests"]:
            values.setdefault(test["label"], []).append(test["accuracy"])
    return values


def _summary(
    results: StudyResults, model: str, found: Sequence[dict[str, Any]], differences: Mapping[str, Difference]
) -> ModelSummary:
    from gdn2.train.synthetic.spec import LOOKS

    study, rate, first = results.study, results.best_rate(model), found[0]
    floats, looks = first["state_floats"], min(len(result["curve"]) for result in found)
    return ModelSummary(
        name=model,
        rate=rate,
        at_edge=len(study.rates) > 2 and rate in (min(study.rates), max(study.rates)),
        losses={each: _loss(results, model, each) for each in study.rates},
        parameters=(first["parameters"], first["parameters_without_embedding"]),
        state_floats=None if None in floats else sum(floats),
        tests={label: spread(values) for label, values in _accuracies(found).items()},
        differences=differences,
        converged=sum(result["converged"] for result in found) if looks >= LOOKS else None,
        seeds=len(found),
        seconds=sum(result["seconds"] for result in found) / len(found),
    )


def _loss(results: StudyResults, model: str, rate: float) -> float | None:
    ends = []
    for seed in range(1, results.study.seeds.choose + 1):
        result = results.result(model, rate, seed)
        if result is None or "curve" not in result:
            return None
        ends.append(result["curve"][-1]["validation_loss"])
    return float(sum(ends)) / len(ends)


def _differences(
    values: Mapping[str, Mapping[str, list[float]]], reference: str, models: int
) -> dict[str, dict[str, Difference]]:
    """Of every model from the reference, corrected over all tests that the study asks for.

    Those that cannot be made count as well, as no difference: without them a mark of an unfinished study could go away
    only because further models are trained.

    Args:
        values: accuracies by model and label, of the models that are trained.
        reference: whom the others are compared with.
        models: of the study.
    """
    if reference not in values:
        return {}
    found: dict[tuple[str, str], tuple[float, float | None]] = {}
    for model, tests in values.items():
        if model == reference:
            continue
        for label, own in tests.items():
            other = values[reference].get(label)
            if other:
                found[model, label] = (sum(own) / len(own) - sum(other) / len(other), _welch(own, other))
    asked = (models - 1) * len(values[reference])
    tested = [1.0 if p is None else p for _, p in found.values()]
    corrected = holm([*tested, *[1.0] * (asked - len(tested))])
    result: dict[str, dict[str, Difference]] = {}
    for ((model, label), (value, p)), held in zip(found.items(), corrected[: len(found)], strict=True):
        result.setdefault(model, {})[label] = Difference(value, p, None if p is None else held)
    return result


def _welch(own: Sequence[float], other: Sequence[float]) -> float | None:
    if min(len(own), len(other)) < 2 or len({*own}) == len({*other}) == 1:
        return None
    difference = statistics.fmean(own) - statistics.fmean(other)
    squared = (statistics.variance(own) / len(own), statistics.variance(other) / len(other))
    return welch(difference, squared, (len(own), len(other)))[0]
