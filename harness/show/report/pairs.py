"""The comparison of a page: a matrix of models, and for each pair of them what was found task by task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.comparison import MeanComparison, ModelComparison, PairComparison, TaskComparison
from harness.show import comparison_text as text
from tasks.metrics import Unit

WIDTH = 180
"""Of the drawing of a difference, in the units of an SVG."""
EDGE = 8


@dataclass(frozen=True)
class MatrixCell:
    """One model against another: `pair` is the place of the pair; `sign` says who is better by the mean."""

    pair: int
    value: str
    counts: str
    sign: str
    tip: str


@dataclass(frozen=True)
class Whisker:
    """A difference with its interval as a drawing: places on its width."""

    zero: float
    low: float | None
    high: float | None
    value: float


@dataclass(frozen=True)
class PairRow:
    """One task of a pair, or their mean."""

    label: str
    a: str
    b: str
    difference: str
    interval: str
    counts: str
    p: str
    p_corrected: str
    detectable: str
    verdict: str
    sign: str
    whisker: Whisker | None
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class PairView:
    """A pair of models; `remarks` hold for every task, `problem` says why nothing could be compared."""

    a: str
    b: str
    rows: tuple[PairRow, ...]
    means: tuple[PairRow, ...]
    remarks: tuple[str, ...]
    left_out: tuple[str, ...]
    problem: str | None


@dataclass(frozen=True)
class Matrix:
    """All of a comparison."""

    models: tuple[str, ...]
    rows: tuple[tuple[MatrixCell | None, ...], ...]
    pairs: tuple[PairView, ...]
    tests: int
    notes: tuple[str, ...]


def make_matrix(comparison: ModelComparison) -> Matrix:
    """Make it of a comparison: every cell is its row's model against its column's."""
    known = {(pair.a, pair.b): place for place, pair in enumerate(comparison.pairs)}
    rows = tuple(
        tuple(
            _cell(comparison.pairs[known[a, b]], known[a, b], 1)
            if (a, b) in known
            else _cell(comparison.pairs[known[b, a]], known[b, a], -1)
            if (b, a) in known
            else None
            for b in comparison.models
        )
        for a in comparison.models
    )
    pairs = tuple(_pair(pair) for pair in comparison.pairs)
    return Matrix(comparison.models, rows, pairs, comparison.tests, comparison.notes)


def _cell(pair: PairComparison, place: int, sign: int) -> MatrixCell:
    """A pair as its first model sees it, or with sign -1 its second."""
    a, b = (pair.a, pair.b) if sign > 0 else (pair.b, pair.a)
    if pair.problem is not None:
        return MatrixCell(place, "—", "", "", f"{a} against {b}: {pair.problem}")
    wins, losses = pair.count("A better"), pair.count("B better")
    if sign < 0:
        wins, losses = losses, wins
    counts = f"{wins}–{losses}–{len(pair.tasks) - wins - losses}"
    tip = f"{a} against {b}: better in {wins}, worse in {losses} of {len(pair.tasks)} tasks"
    mean = text.mean_of(pair)
    if mean is None:
        return MatrixCell(place, counts, "", "", tip)
    low, high = (mean.low, mean.high) if sign > 0 else (_minus(mean.high), _minus(mean.low))
    ends = text.interval(low, high, mean.unit)
    value = text.number(sign * mean.difference, mean.unit, True)
    tip += f"; mean difference {value}" + (f" ({ends})" if ends else "") + f", corrected p {_p(mean.p_corrected)}"
    return MatrixCell(place, value, counts, _sign(mean, sign), tip)


def _minus(value: float | None) -> float | None:
    return None if value is None else -value


def _p(value: float | None) -> str:
    said = text.p_value(value)
    return said if said.startswith("<") or value is None else f"= {said}"


def _sign(row: TaskComparison | MeanComparison, sign: int = 1) -> str:
    """`better`, `worse`, or nothing where two are not told apart."""
    found = {"A better": 1, "B better": -1}.get(row.verdict, 0) * sign
    return "better" if found > 0 else "worse" if found < 0 else ""


def _pair(pair: PairComparison) -> PairView:
    scales: dict[Unit, float] = {}
    rows: list[TaskComparison | MeanComparison] = [*pair.tasks, *pair.means]
    for row in rows:
        reach = [abs(end) for end in (row.low, row.high, row.difference) if end is not None]
        scales[row.unit] = max([scales.get(row.unit, 0.0), *reach])
    said = [text.remarks(task) for task in pair.tasks]
    shared = [remark for remark in said[0] if all(remark in others for others in said)] if len(said) > 1 else []
    return PairView(
        pair.a,
        pair.b,
        tuple(_row(pair, task, scales[task.unit], shared) for task in pair.tasks),
        tuple(_mean(pair, mean, scales[mean.unit]) for mean in pair.means),
        tuple(shared),
        tuple(f"{label}: {reason}" for label, reason in pair.left_out),
        pair.problem,
    )


def _row(pair: PairComparison, task: TaskComparison, scale: float, shared: Sequence[str]) -> PairRow:
    return PairRow(
        label=text.label(task, pair),
        a=text.number(task.a, task.unit),
        b=text.number(task.b, task.unit),
        difference=text.number(task.difference, task.unit, True),
        interval=text.interval(task.low, task.high, task.unit),
        counts=text.counts(task),
        p=text.p_value(task.p),
        p_corrected=text.p_value(task.p_corrected),
        detectable=text.found(task),
        verdict=text.verdict(task, pair),
        sign=_sign(task),
        whisker=_whisker(task, scale),
        remarks=tuple(remark for remark in text.remarks(task) if remark not in shared),
    )


def _mean(pair: PairComparison, mean: MeanComparison, scale: float) -> PairRow:
    return PairRow(
        label=f"mean of {mean.places} ({mean.label})" if len(pair.means) > 1 else f"mean of {mean.places}",
        a="",
        b="",
        difference=text.number(mean.difference, mean.unit, True),
        interval=text.interval(mean.low, mean.high, mean.unit),
        counts="",
        p=text.p_value(mean.p),
        p_corrected=text.p_value(mean.p_corrected),
        detectable=text.found(mean),
        verdict=text.verdict(mean, pair),
        sign=_sign(mean),
        whisker=_whisker(mean, scale),
        remarks=(),
    )


def _whisker(row: TaskComparison | MeanComparison, scale: float) -> Whisker | None:
    """Differences of one unit share a scale that is symmetrical around zero."""
    if not scale < float("inf"):
        return None

    def x(value: float) -> float:
        share = value / scale if scale else 0.0
        return round(WIDTH / 2 + share * (WIDTH / 2 - EDGE), 1)

    low, high = (None, None) if row.low is None or row.high is None else (x(row.low), x(row.high))
    return Whisker(x(0.0), low, high, x(row.difference))
