"""`plot position`: bits per byte in buckets of positions of long documents, a panel a task and length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.analysis.picture_data import PictureData
from harness.analysis.score_rows import PositionRow
from harness.show.plots.ends import End, fit_at_ends, name_ends
from harness.show.plots.lines import bounds, handles_of, name_trained, trained_handle, trained_lines
from harness.show.plots.look import Look, Stroke
from harness.show.plots.sheet import Sheet, set_ticks
from harness.show.plots.texts import length_text, written

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 1.45


def draw_position(data: PictureData[PositionRow], look: Look) -> Sheet:
    """Draw the picture."""
    kinds = list(dict.fromkeys((row.task, row.length) for row in data.rows))
    sheet = Sheet(look, len(kinds), HEIGHT * (1.15 if len(kinds) == 1 else 1), 2 if look.width < 5 else 3)
    names = data.values("model")
    strokes = look.strokes(names)
    for axes, kind in zip(sheet.panels, kinds, strict=True):
        axes.grid(axis="y")
        rows = [row for row in data.rows if (row.task, row.length) == kind]
        for name in names:
            _draw_steps(
                axes, sorted((row for row in rows if row.model == name), key=lambda row: row.end), strokes[name]
            )
        _position_axis(axes, rows)
        axes.margins(y=0.12)
    lengths = len({length for _, length in kinds}) > 1
    sheet.name_panels([f"{task}, {length_text(length)}" if lengths else task for task, length in kinds])
    sheet.name_axes("position (tokens)", "bits per byte")
    is_trained = trained_lines(sheet, data.trained, strokes)
    if fit_at_ends(sheet, [written(name) for name in names], HEIGHT):
        last = {row.model: row for row in sorted(data.rows, key=lambda row: row.end)}
        name_ends(
            sheet, sheet.panels[0], [End(row.end, row.value, name, strokes[name].color) for name, row in last.items()]
        )
        name_trained(sheet.panels[0], data.trained.values(), look)
    else:
        extra = {"length in training": trained_handle(look)} if is_trained else {}
        sheet.legend([*handles_of(strokes), *extra.values()], [*names, *extra])
    return sheet


def _draw_steps(axes: Axes, rows: Sequence[PositionRow], stroke: Stroke) -> None:
    """A level for each bucket, as wide as the bucket."""
    if not rows:
        return
    ys, lows, highs = bounds(rows)
    xs = [_left(row) for row in rows] + [float(rows[-1].end)]
    axes.fill_between(
        xs, [*lows, lows[-1]], [*highs, highs[-1]], step="post", color=stroke.color, alpha=0.16, linewidth=0
    )
    axes.step(xs, [*ys, ys[-1]], where="post", color=stroke.color, linestyle=stroke.dashes)
    middles = [(_left(row) * row.end) ** 0.5 for row in rows]
    axes.plot(middles, ys, **{**stroke.line(), "linestyle": "none"})


def _left(row: PositionRow) -> float:
    """Where a bucket begins on an axis of doublings, which has no 0."""
    return float(row.begin or row.end / 2)


def _position_axis(axes: Axes, rows: Sequence[PositionRow]) -> None:
    axes.set_xscale("log", base=2)
    places = sorted({row.begin for row in rows if row.begin} | {row.end for row in rows})
    first = min(_left(row) for row in rows)
    set_ticks(axes, "x", [first, *map(float, places)], ["0", *map(length_text, places)])
    axes.set_xlim(first, places[-1])
