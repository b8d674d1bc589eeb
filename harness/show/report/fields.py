"""Heatmaps by length and depth, and bars of what answers were, as tables of a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.asked import KINDS, answered
from harness.analysis.entrants import Entrant, ShownCell
from harness.analysis.grids import DepthGrid, Field, depth_grids
from harness.words import short_length
from tasks.verdicts import MEANINGS

LEVELS = 20
"""Steps of the scale of colours."""


@dataclass(frozen=True)
class HeatCell:
    """A field as shown: its number in percent, its step on the scale, and what it says."""

    text: str
    level: int
    tip: str


@dataclass(frozen=True)
class Heatmap:
    """One model's grid; each row is a range of depths with its cells; `is_mean`: of means of several places."""

    model: str
    is_mean: bool
    lengths: tuple[str, ...]
    rows: tuple[tuple[str, tuple[HeatCell | None, ...]], ...]


@dataclass(frozen=True)
class Segment:
    """A part of a bar: the place of its kind, where it begins and how wide it is, in percent."""

    kind: int
    x: float
    width: float
    tip: str


@dataclass(frozen=True)
class Bar:
    """What the answers of one cell were."""

    label: str
    n: int
    segments: tuple[Segment, ...]
    counts: str


def make_heatmaps(entrants: Sequence[Entrant]) -> list[tuple[str, list[Heatmap]]]:
    """The heatmaps of each task, one a model."""
    tasks: dict[str, list[Heatmap]] = {}
    for entrant in entrants:
        for grid in depth_grids(entrant):
            tasks.setdefault(grid.task, []).append(_heatmap(entrant.title, grid))
    return list(tasks.items())


def kinds_in(bars: Sequence[tuple[str, Sequence[Bar]]]) -> list[tuple[int, str, str]]:
    """The kinds of answers that bars have: place, title, and what the verdict means."""
    meanings = {str(kind): meaning for kind, meaning in MEANINGS.items()}
    there = {part.kind for _, rows in bars for bar in rows for part in bar.segments}
    return [
        (place, title, meanings.get(kind, "")) for place, (kind, title) in enumerate(KINDS.items()) if place in there
    ]


def make_bars(entrants: Sequence[Entrant]) -> list[tuple[str, list[Bar]]]:
    """The bars of each model, one for every cell with answers."""
    found = []
    for entrant in entrants:
        bars = [_bar(entrant.title, cell) for cell in entrant.shares.values() if cell.samples]
        if bars:
            found.append((entrant.title, bars))
    return found


def _heatmap(model: str, grid: DepthGrid) -> Heatmap:
    bins = len(grid.fields)
    rows = []
    for place, fields in enumerate(grid.fields):
        depth = f"{100 * place // bins}–{100 * (place + 1) // bins} %"
        cells = tuple(
            None if field is None else _heat(f"{model}, {grid.task}, {length:,} tokens, depth {depth}", field)
            for length, field in zip(grid.lengths, fields, strict=True)
        )
        rows.append((depth, cells))
    return Heatmap(model, grid.is_mean, tuple(short_length(length) for length in grid.lengths), tuple(rows))


def _heat(where: str, field: Field) -> HeatCell:
    interval = ""
    if field.low is not None and field.high is not None:
        interval = f" (95 %: {100 * field.low:.0f}–{100 * field.high:.0f})"
    tip = f"{where}: {100 * field.mean:.1f} %{interval}, n = {field.n:,}"
    return HeatCell(f"{100 * field.mean:.0f}", round(field.mean * LEVELS), tip)


def _bar(model: str, cell: ShownCell) -> Bar:
    counted = Counter(answered(cell, sample).kind for sample in cell.samples)
    n = len(cell.samples)
    segments, begin = [], 0
    for place, (kind, title) in enumerate(KINDS.items()):
        if number := counted[kind]:
            tip = f"{model}, {cell.label}: {title} {number:,} of {n:,} ({number / n:.1%})"
            segments.append(Segment(place, round(100 * begin / n, 2), round(100 * number / n, 2), tip))
            begin += number
    counts = ", ".join(f"{title} {counted[kind]}" for kind, title in KINDS.items() if counted[kind])
    return Bar(cell.label, n, tuple(segments), counts)
