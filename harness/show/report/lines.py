"""Accuracy over length as drawings: where lines, bands, points and names lie, in the units of an SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.records.table import Entry, Row, Table
from harness.words import short, short_length
from tasks.registry import Suite

WIDTH, HEIGHT = 380, 236
LEFT, RIGHT, TOP, BOTTOM = 30, 116, 12, 28
NAME_ROOM = 17
"""Letters of a name beside its line."""
LINE_HEIGHT = 12


@dataclass(frozen=True)
class Point:
    """A number on a line, with what it says."""

    x: float
    y: float
    tip: str


@dataclass
class Line:
    """One model; `colour` is its place among ours, None for the papers'; `name_y` is where its name stands."""

    name: str
    short_name: str
    colour: int | None
    path: str
    band: str
    points: tuple[Point, ...]
    name_y: float


@dataclass(frozen=True)
class Chart:
    """One task: its lines, ours last so that they lie on top, and its axes as pairs of place and label."""

    task: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


def make_charts(suite: Suite, table: Table, colour_of: Callable[[Row], int | None]) -> list[Chart]:
    """Draw a chart for every task of a table that has several lengths.

    Args:
        suite: of the table.
        table: ours and the papers'.
        colour_of: the colour of a row of ours, a number; rows without one are not drawn.
    """
    tasks: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    for place, column in enumerate(suite.columns):
        if column.length is not None and table.headers[place].unit == "share":
            tasks.setdefault((column.group, column.task, column.metric), []).append((column.length, place))
    charts = []
    for (group, _, _), columns in tasks.items():
        if len({length for length, _ in columns}) > 1:
            charts.append(_chart(group, sorted(columns), table, colour_of))
    return [chart for chart in charts if any(line.colour is not None for line in chart.lines)]


def _chart(
    group: str, columns: Sequence[tuple[int, int]], table: Table, colour_of: Callable[[Row], int | None]
) -> Chart:
    lengths = [length for length, _ in columns]
    lines = []
    for row in table.rows:
        colour = colour_of(row)
        found = [(length, entry) for length, place in columns if (entry := row.entries[place]) is not None]
        if found and (colour is not None or row.source is not None):
            lines.append(_line(row, found, lengths, colour))
    lines.sort(key=lambda line: (line.colour is not None, line.colour or 0))
    _spread([line for line in lines if line.colour is not None])
    x_ticks = tuple((_x(length, lengths), short_length(length)) for length in dict.fromkeys(lengths))
    y_ticks = tuple((_y(value), f"{value}") for value in (0, 25, 50, 75, 100))
    return Chart(group, tuple(lines), x_ticks, y_ticks)


def _line(row: Row, found: Sequence[tuple[int, Entry]], lengths: Sequence[int], colour: int | None) -> Line:
    points = tuple(
        Point(_x(length, lengths), _y(entry.value), f"{row.full_name}, {length:,} tokens: {_said(entry)}")
        for length, entry in found
    )
    banded = [
        (_x(length, lengths), _y(entry.low), _y(entry.high))
        for length, entry in found
        if entry.low is not None and entry.high is not None
    ]
    there = [f"{x:g},{high:g}" for x, _, high in banded]
    back = [f"{x:g},{low:g}" for x, low, _ in reversed(banded)]
    band = f"M{'L'.join([*there, *back])}Z" if len(banded) > 1 else ""
    path = "M" + "L".join(f"{point.x:g},{point.y:g}" for point in points)
    return Line(row.full_name, _short_name(row.full_name), colour, path, band, points, points[-1].y)


def _short_name(name: str) -> str:
    """A name beside its line; of a long one the middle is left out, for names of one family differ at their ends."""
    half = NAME_ROOM // 2
    return name if len(name) <= NAME_ROOM else f"{name[:half]}…{name[-half:]}"


def _said(entry: Entry) -> str:
    text = f"{entry.value:.1f} %"
    if entry.low is not None and entry.high is not None:
        text += f" (95 %: {entry.low:.0f}–{entry.high:.0f})"
    return text if entry.n is None else f"{text}, n = {short(entry.n)}"


def _spread(lines: Sequence[Line]) -> None:
    """Move names apart that would lie on each other, as little as possible and within the drawing."""
    ordered = sorted(lines, key=lambda line: line.name_y)
    floor = float(TOP)
    for line in ordered:
        line.name_y = floor = max(line.name_y, floor)
        floor += LINE_HEIGHT
    ceiling = float(HEIGHT - BOTTOM)
    for line in reversed(ordered):
        line.name_y = round(min(line.name_y, ceiling), 1)
        ceiling = line.name_y - LINE_HEIGHT


def _x(length: int, lengths: Sequence[int]) -> float:
    first, last = math.log2(min(lengths)), math.log2(max(lengths))
    return round(LEFT + 8 + (math.log2(length) - first) / (last - first) * (WIDTH - LEFT - RIGHT - 16), 1)


def _y(percent: float) -> float:
    return round(TOP + (100 - percent) / 100 * (HEIGHT - TOP - BOTTOM), 1)
