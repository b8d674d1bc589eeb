"""Lines with their 95 % bands, and axes of lengths: what several pictures draw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.lines import Line2D

from harness.analysis.score_rows import ScoreRow
from harness.show.plots.look import Look, Stroke
from harness.show.plots.sheet import Sheet, set_ticks
from harness.show.plots.texts import length_text, scaled
from tasks.metrics import Unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_line(axes: Axes, xs: Sequence[float], rows: Sequence[ScoreRow], stroke: Stroke, band: float = 0.16) -> None:
    """Draw scores over x with the band of their intervals; a single point has a bar."""
    ys, lows, highs = bounds(rows)
    if len(rows) == 1:
        axes.plot([xs[0], xs[0]], [lows[0], highs[0]], color=stroke.color, linewidth=0.8)
    axes.fill_between(xs, lows, highs, color=stroke.color, alpha=band, linewidth=0)
    axes.plot(xs, ys, **stroke.line(), clip_on=False, zorder=3)


def bounds(rows: Sequence[ScoreRow]) -> tuple[list[float], list[float], list[float]]:
    """Values with the ends of their intervals, as they are drawn; NaN where there are none."""
    ys = [scaled(row.value, row.unit) for row in rows]
    lows = [scaled(row.low, row.unit) for row in rows]
    highs = [scaled(row.high, row.unit) for row in rows]
    return ys, lows, highs


def score_axis(axes: Axes, unit: Unit, look: Look) -> None:
    """The y axis of a score: a share from 0 to 100 %, anything else as it comes."""
    axes.grid(axis="y")
    if unit == "share":
        axes.set_ylim(-3, 103)
        set_ticks(axes, "y", [0, 25, 50, 75, 100], ["0", "25", "50", "75", "100"])
    else:
        axes.margins(y=0.12)
    axes.tick_params(axis="y", colors=look.quiet, labelcolor=look.ink)


def length_axis(axes: Axes, lengths: Sequence[int], room: float = 1.12) -> None:
    """The x axis of lengths in tokens: each doubling is one step."""
    axes.set_xscale("log", base=2)
    places = sorted(set(lengths))
    set_ticks(axes, "x", [float(length) for length in places], [length_text(length) for length in places])
    wide = room if len(places) > 1 else 1.5
    axes.set_xlim(places[0] / wide, places[-1] * wide)


def trained_lines(sheet: Sheet, trained: Mapping[str, int], strokes: Mapping[str, Stroke]) -> bool:
    """A dashed line at the length in training of each model, where the panel reaches it; whether there is one."""
    drawn = False
    for axes in sheet.panels:
        low, high = axes.get_xlim()
        for name, stroke in strokes.items():
            if name in trained and low < trained[name] < high:
                axes.axvline(
                    trained[name], color=stroke.color, linestyle=(0, (3, 2)), linewidth=0.8, alpha=0.8, zorder=1
                )
                drawn = True
    return drawn


def trained_handle(look: Look) -> Line2D:
    """What stands for these lines in a legend."""
    return Line2D([], [], color=look.quiet, linestyle=(0, (3, 2)), linewidth=0.8)


def name_trained(axes: Axes, trained: Iterable[int], look: Look) -> None:
    """Write along these lines of a panel what they are, where there is no legend."""
    low, high = axes.get_xlim()
    for length in {length for length in trained if low < length < high}:
        axes.annotate(
            "length in training", (length, 0), xycoords=("data", "axes fraction"), xytext=(2, 3),
            textcoords="offset points", rotation=90, fontsize=6, color=look.quiet, va="bottom", ha="left",
        )  # fmt: skip


def handles_of(strokes: Mapping[str, Stroke]) -> list[Line2D]:
    """What stands for the lines of models in a legend."""
    return [Line2D([], [], **stroke.line()) for stroke in strokes.values()]
