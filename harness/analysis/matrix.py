"""Every model against every other: mean differences, and which of them are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.analysis.compare import compare_sides
from harness.analysis.comparison import PairComparison
from harness.analysis.picture_data import PictureData
from harness.analysis.shown import Model, Spot
from harness.analysis.sides import Side
from harness.errors import UserError
from tasks.metrics import Unit
from tasks.registry import Suite


@dataclass(frozen=True, kw_only=True)
class DifferenceRow:
    """Two models, as `compare` has them.

    Attributes:
        a: the first one's title.
        b: the second one's.
        label: what the difference is of: a mean, or one task.
        places: how many tasks and lengths it is over.
        unit: of the difference; a share lies between -1 and 1.
        difference: how much better A is; below 0 where B is.
        low: lower end of the 95 % interval.
        high: upper end.
        p_corrected: by Holm, among all pairs; None where nothing was tested.
        told_apart: whether that is at most 0.05.
    """

    a: str
    b: str
    label: str
    places: int
    unit: Unit
    difference: float
    low: float | None
    high: float | None
    p_corrected: float | None
    told_apart: bool


def mean_differences(models: Sequence[Model], spots: Sequence[Spot]) -> PictureData[DifferenceRow]:
    """The mean difference of each pair of models over what both have.

    Args:
        models: at least two.
        spots: what is compared, of one suite; nothing for all that the runs have.

    Raises:
        UserError: fewer than two models, tasks of several suites, or no pair has anything in common.
    """
    comparison = compare_sides([Side(model.title, model.runs) for model in models], _suite(spots))
    rows = [row for pair in comparison.pairs if (row := _row(pair)) is not None]
    if not rows:
        problem = next((pair.problem for pair in comparison.pairs if pair.problem), "no task of one unit in common")
        raise UserError(f"nothing to compare: {problem}")
    problems = [f"{pair.a} and {pair.b}: {pair.problem}" for pair in comparison.pairs if pair.problem]
    return PictureData("matrix", tuple(rows), (*comparison.notes, *problems))


def _suite(spots: Sequence[Spot]) -> Suite | None:
    """A suite of these columns alone."""
    if not spots:
        return None
    suites = list(dict.fromkeys(spot.suite.name for spot in spots))
    if len(suites) > 1:
        raise UserError(f"--tasks of several suites ({', '.join(suites)}): say --suite")
    return replace(spots[0].suite, columns=tuple(spot.column for spot in spots), averages=())


def _row(pair: PairComparison) -> DifferenceRow | None:
    if pair.means:
        mean = pair.means[0]
        return DifferenceRow(
            a=pair.a,
            b=pair.b,
            label=mean.label,
            places=mean.places,
            unit=mean.unit,
            difference=mean.difference,
            low=mean.low,
            high=mean.high,
            p_corrected=mean.p_corrected,
            told_apart=mean.verdict in ("A better", "B better"),
        )
    if len(pair.tasks) != 1:
        return None
    (task,) = pair.tasks
    ends = [end if task.higher_is_better else -end for end in (task.low, task.high) if end is not None]
    return DifferenceRow(
        a=pair.a,
        b=pair.b,
        label=task.place.label,
        places=1,
        unit=task.unit,
        difference=task.difference if task.higher_is_better else -task.difference,
        low=min(ends, default=None),
        high=max(ends, default=None),
        p_corrected=task.p_corrected,
        told_apart=task.verdict in ("A better", "B better"),
    )
