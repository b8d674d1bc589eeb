"""`plot failures`: how answers end, a bar a length, a panel a model and task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.patches import Patch

from harness.analysis.picture_data import PictureData
from harness.analysis.verdict_shares import VerdictRow
from harness.show.plots.look import Look
from harness.show.plots.sheet import Sheet, set_ticks
from harness.show.plots.texts import length_text
from tasks.verdicts import TITLES, VERDICTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 1.4
COLORS = {
    "right": "#009E73",
    "partly": "#94D3C0",
    "wrong": "#D55E00",
    "stale": "#E69F00",
    "invented": "#CC79A7",
    "form": "#F0E442",
    "echo": "#0072B2",
    "none": "#56B4E9",
    "empty": "#BDBDBD",
    "cut": "#6E6E6E",
}
"""Of Okabe and Ito, and greys for answers that say nothing about the model."""


def draw_failures(data: PictureData[VerdictRow], look: Look) -> Sheet:
    """Draw the picture."""
    kinds = list(dict.fromkeys((row.model, row.task) for row in data.rows))
    sheet = Sheet(look, len(kinds), HEIGHT, 2 if look.width < 5 else 4)
    lengths = sorted(data.values("length"), key=lambda length: length or 0)
    for axes, kind in zip(sheet.panels, kinds, strict=True):
        _draw_bars(axes, [row for row in data.rows if (row.model, row.task) == kind], lengths, look)
    varying = [part for part in range(2) if len({kind[part] for kind in kinds}) > 1] or [0, 1]
    sheet.name_panels([tuple(kind[part] for part in varying) for kind in kinds])
    sheet.name_axes("length (tokens)" if lengths != [None] else "", "samples (%)")
    present = [verdict for verdict in VERDICTS if verdict in data.values("verdict")]
    handles = [Patch(facecolor=COLORS[verdict]) for verdict in present]
    sheet.legend(handles, [TITLES[verdict] for verdict in present], handle=0.8)
    return sheet


def _draw_bars(axes: Axes, rows: Sequence[VerdictRow], lengths: Sequence[int | None], look: Look) -> None:
    for place, length in enumerate(lengths):
        below = 0.0
        own = {row.verdict: row for row in rows if row.length == length}
        for verdict in VERDICTS:
            if verdict in own:
                share = 100 * own[verdict].count / own[verdict].n
                axes.bar(place, share, 0.8, below, color=COLORS[verdict], edgecolor=look.ground, linewidth=0.4)
                below += share
    axes.set_ylim(0, 100)
    axes.set_xlim(-0.55, len(lengths) - 0.45)
    alone = lengths == [None]
    names = ["" if alone else "none" if length is None else length_text(length) for length in lengths]
    set_ticks(axes, "x", [float(place) for place in range(len(lengths))], names)
    set_ticks(axes, "y", [0, 25, 50, 75, 100], ["0", "25", "50", "75", "100"])
    axes.tick_params(axis="x", length=0)
