"""`plot depth`: scores over length and depth, a panel a model and task; the axes are Kamradt's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.patches import Rectangle

from harness.analysis.depths import BINS, DepthRow
from harness.analysis.picture_data import PictureData
from harness.show.plots.look import Look
from harness.show.plots.sheet import Sheet, set_ticks
from harness.show.plots.texts import length_text, metric_text, scaled, width_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 1.5
FEW = 30  # samples below which a cell says how many it has
SMALL = 5.5  # points of these numbers


def draw_depth(data: PictureData[DepthRow], look: Look) -> Sheet:
    """Draw the picture."""
    kinds = list(dict.fromkeys((row.model, row.task, row.metric) for row in data.rows))
    sheet = Sheet(look, len(kinds), HEIGHT, 2 if look.width < 5 else 4)
    colors = matplotlib.colormaps["cividis"]
    for axes, kind in zip(sheet.panels, kinds, strict=True):
        rows = [row for row in data.rows if (row.model, row.task, row.metric) == kind]
        _draw_panel(sheet, axes, rows, sorted(data.values("length")), colors)
    sheet.name_panels(_titles(kinds))
    units = {row.metric: row.unit for row in data.rows}
    sheet.name_axes("length (tokens)", "depth of the needle (%)")
    bar = sheet.figure.colorbar(
        ScalarMappable(Normalize(0, 100), colors),
        ax=sheet.panels,
        aspect=26,
        shrink=1 / sheet.rows**1.1,
        anchor=(0, 1),
        fraction=0.05,
        pad=0.02,
    )
    bar.set_ticks([0, 25, 50, 75, 100])
    bar.outline.set_visible(False)
    bar.set_label(" / ".join(metric_text(metric, unit) for metric, unit in units.items()), labelpad=2)
    return sheet


def _titles(kinds: Sequence[tuple[str, str, str]]) -> list[tuple[str, ...]]:
    """What differs among the panels; of a single one model and task."""
    varying = [part for part in range(3) if len({kind[part] for kind in kinds}) > 1] or [0, 1]
    return [tuple(kind[part] for part in varying) for kind in kinds]


def _draw_panel(sheet: Sheet, axes: Axes, rows: Sequence[DepthRow], lengths: list[int], colors: Colormap) -> None:
    places = {length: place for place, length in enumerate(lengths)}
    axes.add_patch(
        Rectangle(
            (0, 0), len(lengths), BINS, facecolor=sheet.look.ground, edgecolor=sheet.look.grid, hatch="//////", lw=0
        )
    )
    for row in rows:
        color = colors(scaled(row.value, row.unit) / 100)
        corner = (places[row.length], row.begin * BINS)
        axes.add_patch(Rectangle(corner, 1, 1, facecolor=color, edgecolor=sheet.look.ground, linewidth=0.5))
    axes.set_xlim(0, len(lengths))
    axes.set_ylim(BINS, 0)  # the beginning of the context on top
    set_ticks(axes, "x", [place + 0.5 for place in range(len(lengths))], [length_text(length) for length in lengths])
    set_ticks(axes, "y", [0, BINS / 4, BINS / 2, BINS * 3 / 4, BINS], ["0", "25", "50", "75", "100"])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if min(row.n for row in rows) < FEW:
        sheet.finishing.append(lambda: _write_counts(sheet, axes, rows, places, colors))


def _write_counts(sheet: Sheet, axes: Axes, rows: Sequence[DepthRow], places: dict[int, int], colors: Colormap) -> None:
    """How many samples each cell has, in small figures, where they fit."""
    box, dpi = axes.get_window_extent(), sheet.figure.dpi
    room = box.width / dpi / len(places)
    if any(width_of(str(row.n), SMALL) > room * 0.9 for row in rows) or box.height / BINS / dpi * 72 < SMALL:
        return
    for row in rows:
        red, green, blue, _ = colors(scaled(row.value, row.unit) / 100)
        ink = "#101010" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.45 else "#F4F4F4"
        axes.text(
            places[row.length] + 0.5, (row.begin + row.end) / 2 * BINS, str(row.n), fontsize=SMALL, color=ink,
            ha="center", va="center_baseline", alpha=0.85,
        )  # fmt: skip
