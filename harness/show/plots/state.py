"""`plot state`: scores at one length beside the bytes of the state, a panel a task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D

from harness.analysis.picture_data import PictureData
from harness.analysis.score_rows import StateRow
from harness.show.plots.lines import bounds, score_axis
from harness.show.plots.look import Look, Stroke
from harness.show.plots.sheet import Sheet, set_ticks
from harness.show.plots.texts import bytes_text, length_text, metric_text, panel_names, scaled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 1.45
ALIKE = 0.1  # doublings of bytes up to which two states are one
APART = 5.0  # points from one model of a state to the next


def draw_state(data: PictureData[StateRow], look: Look) -> Sheet:
    """Draw the picture."""
    kinds = list(dict.fromkeys((row.task, row.metric, row.unit) for row in data.rows))
    sheet = Sheet(look, len(kinds), HEIGHT, 2 if look.width < 5 else 4, len({kind[2] for kind in kinds}) == 1)
    strokes = look.strokes(data.values("model"))
    sizes, inches = [max(row.state_bytes, 1) for row in data.rows], look.width / sheet.columns
    states = {row.model: size for row, size in zip(data.rows, sizes, strict=True)}
    places = _side_by_side(states, sizes, inches)
    for axes, (task, metric, unit) in zip(sheet.panels, kinds, strict=True):
        score_axis(axes, unit, look)
        for row in data.rows:
            if (row.task, row.metric) == (task, metric):
                _draw_point(axes, row, places[row.model], strokes[row.model], look)
        _bytes_axis(axes, sizes, inches)
    sheet.name_panels(panel_names([kind[:2] for kind in kinds]))
    aside = "" if places == states else "; equal ones side by side"
    name = f"state at {length_text(data.rows[0].length)} tokens{aside}"
    sheet.name_axes(name, [metric_text(metric, unit) for _, metric, unit in kinds])
    growing = {row.model for row in data.rows if row.bytes_a_token}
    names = {name: f"{name} (grows)" if name in growing else name for name in strokes}
    sheet.legend([_handle(strokes[name], name in growing, look) for name in names], list(names.values()), handle=0.8)
    return sheet


def _side_by_side(states: Mapping[str, int], sizes: Sequence[int], inches: float) -> dict[str, float]:
    """Where each model stands: at its state's bytes, and where several have one state, beside each other around it.

    Args:
        states: bytes by model.
        sizes: those that the axis has room for.
        inches: of a panel.
    """
    begin, end = _range(sizes)
    step = APART / 72 * (end - begin) / (0.8 * inches)  # doublings; names and numbers take a fifth of a panel
    groups: list[list[str]] = []
    for model in sorted(states, key=states.__getitem__):
        if groups and math.log2(states[model] / states[groups[-1][0]]) <= ALIKE:
            groups[-1].append(model)
        else:
            groups.append([model])
    found: dict[str, float] = {}
    for group in groups:
        for place, model in enumerate(group):
            found[model] = states[model] * 2 ** (step * (place - (len(group) - 1) / 2))
    return found


def _draw_point(axes: Axes, row: StateRow, x: float, stroke: Stroke, look: Look) -> None:
    """A dot with the bar of its interval; hollow for a state that grows."""
    _, (low,), (high,) = bounds([row])
    axes.plot([x, x], [low, high], color=stroke.color, linewidth=0.9, zorder=2)
    axes.plot(
        [x], [scaled(row.value, row.unit)], **_marks(stroke, row.bytes_a_token > 0, look), clip_on=False, zorder=3
    )


def _marks(stroke: Stroke, is_growing: bool, look: Look) -> dict[str, Any]:
    face = look.ground if is_growing else stroke.color
    return {
        "color": stroke.color, "linestyle": "none", "marker": stroke.marker, "markersize": 4.2,
        "markerfacecolor": face, "markeredgecolor": stroke.color, "markeredgewidth": 1.0,
    }  # fmt: skip


def _handle(stroke: Stroke, is_growing: bool, look: Look) -> Line2D:
    return Line2D([], [], **_marks(stroke, is_growing, look))


def _bytes_axis(axes: Axes, sizes: Sequence[int], inches: float) -> None:
    """Powers of two of bytes, as many as fit."""
    axes.set_xscale("log", base=2)
    begin, end = _range(sizes)
    axes.set_xlim(2.0**begin, 2.0**end)
    step = max(math.ceil((end - begin) / (inches / 0.62)), 1)
    places = [2.0**power for power in range(begin, end + 1) if power % step == 0]
    set_ticks(axes, "x", places, [bytes_text(place) for place in places])


def _range(sizes: Sequence[int]) -> tuple[int, int]:
    """The powers of two between which the axis lies."""
    return math.floor(math.log2(min(sizes)) - 0.5), math.ceil(math.log2(max(sizes)) + 0.5)
