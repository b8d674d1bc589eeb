"""Effective lengths of models, task by task and for the mean of each family of tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from harness.analysis.printed import printed_rows
from harness.analysis.shown import Model, Number, Spot, numbers_of, trained_lengths
from harness.errors import UserError
from harness.records.effective import RULER, CurvePoint, EffectiveLength, base_score, effective_length
from tasks.registry import list_tasks

Curve = tuple[CurvePoint, ...]


@dataclass(frozen=True, kw_only=True)
class LengthReach:
    """How far a model reaches in one task, or in the mean of several.

    Attributes:
        model: its title.
        label: the task, or the family with the number of its tasks; and the metric where there are several.
        tasks: the names of the tasks.
        metric: of the scores.
        curve: the scores, their mean for several tasks.
        base: the model's own base score.
        above: the effective length by the threshold.
        own: the effective length by the base score; None for a base of 0.
        trained: tokens that the model's configuration names; None where no record tells.
        published: whether a paper printed the scores; then their intervals are the binomial ones of as many samples as
            the suite asks for.
        notes: what is to be known.
    """

    model: str
    label: str
    tasks: tuple[str, ...]
    metric: str
    curve: Curve
    base: float
    above: EffectiveLength
    own: EffectiveLength | None
    trained: int | None
    published: bool = False
    notes: tuple[str, ...] = ()


def lengths_of(
    models: Sequence[Model], spots: Sequence[Spot], published: Sequence[str] = (), threshold: float = RULER
) -> list[LengthReach]:
    """Find how far models reach.

    Args:
        models: ours.
        spots: where numbers are looked for.
        published: names of papers' rows, or patterns of them.
        threshold: to be exceeded, from 0 to 1.

    Returns:
        Model by model its tasks that were run at two lengths or more, and the mean of each family with two of these.

    Raises:
        UserError: no share of right answers at two lengths, or a name of no published row.
    """
    spots = [spot for spot in spots if spot.column.length is not None]
    trained = trained_lengths(models)
    found: list[LengthReach] = []
    for model in models:
        curves = _curves((n.spot.column.task, n.spot.column.metric, _point(n)) for n in _shares(model, spots))
        found += _reaches(model.title, curves, threshold, trained.get(model.title), published=False)
    if not found:
        titles = ", ".join(model.title for model in models)
        raise UserError(
            f"{titles}: no task with a share of right answers was run at two lengths; run --tasks "
            "niah_single_1@1024,niah_single_1@2048"
        )
    rows = [row for row in printed_rows(spots, published) if row.unit == "share"]
    for name in dict.fromkeys(row.model for row in rows):
        points = (
            (r.task, r.metric, CurvePoint(r.length, r.value, r.low, r.high, r.n)) for r in rows if r.model == name
        )
        found += _reaches(name, _curves(points), threshold, None, published=True)
    return found


def _shares(model: Model, spots: Sequence[Spot]) -> list[Number]:
    """Scores that are shares of right answers; those that are better when lower are shares of wrong ones."""
    numbers = numbers_of([model], spots)
    return [number for number in numbers if number.score.unit == "share" and number.score.higher_is_better]


def _point(number: Number) -> CurvePoint:
    score = number.score
    return CurvePoint(number.spot.column.length or 0, score.value, score.low, score.high, score.n)


def _curves(points: Iterable[tuple[str, str, CurvePoint]]) -> dict[tuple[str, str], Curve]:
    """The points of each task and metric that has two lengths or more, each length once, ascending."""
    found: dict[tuple[str, str], dict[int, CurvePoint]] = {}
    for task, metric, point in points:
        found.setdefault((task, metric), {}).setdefault(point.length, point)
    return {key: tuple(own[length] for length in sorted(own)) for key, own in found.items() if len(own) > 1}


def _reaches(
    model: str, curves: dict[tuple[str, str], Curve], threshold: float, trained: int | None, *, published: bool
) -> Iterator[LengthReach]:
    """Each task, then the mean of each family."""

    def reach(label: str, tasks: Sequence[str], metric: str, own: Sequence[Curve], notes: Sequence[str]) -> LengthReach:
        base = base_score(own)
        return LengthReach(
            model=model,
            label=label,
            tasks=tuple(tasks),
            metric=metric,
            curve=mean_curve(own),
            base=base,
            above=effective_length(own, threshold),
            own=effective_length(own, None) if base else None,
            trained=trained,
            published=published,
            notes=tuple(notes),
        )

    several = Counter(task for task, _ in curves)
    for (task, metric), curve in curves.items():
        yield reach(task if several[task] == 1 else f"{task} {metric}", [task], metric, [curve], [])
    families = {info.name: info.family for info in list_tasks()}
    groups: dict[tuple[str, str], list[str]] = {}
    for task, metric in curves:
        if task in families:
            groups.setdefault((families[task], metric), []).append(task)
    means = Counter(family for (family, _), tasks in groups.items() if len(tasks) > 1)
    for (family, metric), tasks in groups.items():
        own = [curves[task, metric] for task in tasks]
        common, notes = _common(tasks, own)
        if len(tasks) > 1 and common:
            kept = [tuple(point for point in curve if point.length in common) for curve in own]
            label = f"{family}, mean of {len(tasks)}"
            yield reach(label if means[family] == 1 else f"{label} {metric}", tasks, metric, kept, notes)


def _common(tasks: Sequence[str], curves: Sequence[Curve]) -> tuple[set[int], list[str]]:
    """The lengths at which all were run, and what is left out for want of some: no mean over a missing cell."""
    lengths = [{point.length for point in curve} for curve in curves]
    common = set.intersection(*lengths)
    notes = []
    for length in sorted(set.union(*lengths) - common):
        lacking = [task for task, own in zip(tasks, lengths, strict=True) if length not in own]
        notes.append(f"no mean at {length:,}: {', '.join(lacking)} not run")
    return common, notes


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The mean of several curves at the same lengths; the interval of a mean of independent scores."""
    if len(curves) == 1:
        return curves[0]
    points = []
    for column in zip(*curves, strict=True):
        count, value = len(column), sum(point.value for point in column) / len(column)
        low = high = None
        if all(point.low is not None and point.high is not None for point in column):
            low = value - sum((p.value - (p.low or 0.0)) ** 2 for p in column) ** 0.5 / count
            high = value + sum(((p.high or 0.0) - p.value) ** 2 for p in column) ** 0.5 / count
        points.append(CurvePoint(column[0].length, value, low, high))
    return tuple(points)
