"""`plot norms`: the largest norm of each layer's states by position, a panel a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullLocator

from harness.analysis.norm_grid import NormRow
from harness.analysis.picture_data import PictureData
from harness.show.plots.look import Look
from harness.show.plots.sheet import Sheet, set_ticks
from harness.show.plots.texts import length_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 1.5
Color = Callable[[float], tuple[float, float, float, float]]
LEAST = 1e-3  # of a norm that has a colour of its own
MANY = 16  # layers, from which on they are not parted by lines
SPARE = 1.05  # by which the scale goes beyond the norms


def draw_norms(data: PictureData[NormRow], look: Look) -> Sheet:
    """Draw the picture."""
    models = data.values("model")
    sheet = Sheet(look, len(models), HEIGHT, 2 if look.width < 5 else 4, share_y=False)
    norms = [max(row.norm, LEAST) for row in data.rows]
    low, high = min(norms) / SPARE, max(norms) * SPARE
    colors = matplotlib.colormaps["cividis"]

    def color_of(norm: float) -> tuple[float, float, float, float]:
        return colors(math.log(max(norm, LEAST) / low) / math.log(high / low))

    positions = sorted(data.values("position"))
    for axes, model in zip(sheet.panels, models, strict=True):
        _draw_panel(axes, [row for row in data.rows if row.model == model], positions, color_of, look)
    sheet.name_panels(models)
    sheet.name_axes("position, to (tokens)", "layer")
    shown = ScalarMappable(LogNorm(low, high), colors)
    bar = sheet.figure.colorbar(
        shown, ax=sheet.panels, aspect=26, shrink=1 / sheet.rows**1.1, anchor=(0, 1), fraction=0.05, pad=0.02
    )
    _norm_ticks(bar.ax, low, high)
    bar.outline.set_visible(False)
    bar.set_label("largest norm of the state", labelpad=2)
    return sheet


def _draw_panel(axes: Axes, rows: Sequence[NormRow], positions: Sequence[int], color_of: Color, look: Look) -> None:
    places = {position: place for place, position in enumerate(positions)}
    layers = sorted({row.layer for row in rows})
    levels = {layer: level for level, layer in enumerate(layers)}
    size = (len(positions), len(layers))
    axes.add_patch(Rectangle((0, 0), *size, facecolor=look.ground, edgecolor=look.grid, hatch="//////", lw=0))
    for row in rows:
        corner = (places[row.position], levels[row.layer])
        color = color_of(row.norm)
        edge = color if len(layers) > MANY else look.ground
        axes.add_patch(Rectangle(corner, 1, 1, facecolor=color, edgecolor=edge, linewidth=0.3))
    axes.set_xlim(0, len(positions))
    axes.set_ylim(0, len(layers))
    set_ticks(axes, "x", [place + 0.5 for place in places.values()], [length_text(end) for end in positions])
    set_ticks(axes, "y", [level + 0.5 for level in levels.values()], [str(layer) for layer in layers])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _norm_ticks(axes: Axes, low: float, high: float) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, or at the ends where there are none between them."""
    found = [float(tick) for tick in LogLocator(subs=(1, 2, 5)).tick_values(low, high) if low <= tick <= high]
    ticks = found if len(found) > 1 else [low, high]
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticks(ticks, labels=[f"{tick:.3g}" for tick in ticks])
