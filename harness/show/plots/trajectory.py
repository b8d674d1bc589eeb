"""`plot trajectory`: scores of checkpoints over the steps of their training, a panel a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.colors import to_hex

from harness.analysis.picture_data import PictureData
from harness.analysis.score_rows import StepRow
from harness.show.plots.ends import End, fit_at_ends, name_ends
from harness.show.plots.lines import draw_line, handles_of, score_axis
from harness.show.plots.look import MARKERS, Look, Stroke
from harness.show.plots.sheet import Sheet, set_ticks
from harness.show.plots.texts import count_text, length_text, metric_text, scaled, written

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 1.45
WIDE = 40  # times the first step from which on steps are drawn by doublings
Panel = tuple[str, str, int | None]


def draw_trajectory(data: PictureData[StepRow], look: Look) -> Sheet:
    """Draw the picture: of one training a line a length, of several a line a training and a panel a length."""
    trainings = data.values("training")
    alone = len(trainings) == 1
    panels = list(dict.fromkeys(_panel(row, alone) for row in data.rows))
    units = {_panel(row, alone): row.unit for row in data.rows}
    sheet = Sheet(look, len(panels), HEIGHT, 2 if look.width < 5 else 4, len(set(units.values())) == 1)
    names = list(dict.fromkeys(_line(row, alone) for row in data.rows))
    strokes = _by_length(names, look) if alone else look.strokes(names)
    for axes, panel in zip(sheet.panels, panels, strict=True):
        score_axis(axes, units[panel], look)
        rows = [row for row in data.rows if _panel(row, alone) == panel]
        for name in names:
            own = [row for row in rows if _line(row, alone) == name]
            if own:
                draw_line(axes, [row.step for row in own], own, strokes[name])
        _step_axis(axes, data.values("step"))
    sheet.name_panels([_title(panel, panels) for panel in panels])
    sheet.name_axes("step of training", [metric_text(panel[1], units[panel]) for panel in panels])
    if fit_at_ends(sheet, [written(name) for name in names], HEIGHT):
        last = {_line(row, alone): row for row in data.rows}
        ends = [End(row.step, scaled(row.value, row.unit), name, strokes[name].color) for name, row in last.items()]
        name_ends(sheet, sheet.panels[0], ends)
    elif len(names) > 1:
        sheet.legend(handles_of(strokes), names)
    return sheet


def _panel(row: StepRow, alone: bool) -> Panel:
    return row.task, row.metric, None if alone else row.length


def _line(row: StepRow, alone: bool) -> str:
    if not alone:
        return row.training
    return row.training if row.length is None else length_text(row.length)


def _title(panel: Panel, panels: Sequence[Panel]) -> str:
    task, metric, length = panel
    parts = [task if length is None else f"{task}@{length_text(length)}"]
    return ", ".join(parts + ([metric] if len({other[1] for other in panels}) > 1 else []))


def _by_length(names: Sequence[str], look: Look) -> dict[str, Stroke]:
    """Lengths in the order of a ramp, from light to dark."""
    ramp = matplotlib.colormaps["viridis"]
    reach = (0.35, 1.0) if look.dark else (0.0, 0.82)
    steps = [reach[0] + (reach[1] - reach[0]) * i / max(len(names) - 1, 1) for i in range(len(names))]
    return {
        name: Stroke(to_hex(ramp(step)), "solid", MARKERS[i % len(MARKERS)])
        for i, (name, step) in enumerate(zip(names, steps, strict=True))
    }


def _step_axis(axes: Axes, steps: Sequence[int]) -> None:
    places = sorted(set(steps))
    if places[0] > 0 and places[-1] / places[0] > WIDE:
        axes.set_xscale("log", base=2)
    else:
        axes.margins(x=0.06)
    set_ticks(axes, "x", [float(step) for step in places], [count_text(step) for step in places])
