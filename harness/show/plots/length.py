"""`plot length`: scores over length, a panel a task, with 95 % bands."""

from __future__ import annotations

from harness.analysis.picture_data import PictureData
from harness.analysis.score_rows import LengthRow
from harness.show.plots.ends import End, fit_at_ends, name_ends
from harness.show.plots.lines import (
    draw_line,
    handles_of,
    length_axis,
    name_trained,
    score_axis,
    trained_handle,
    trained_lines,
)
from harness.show.plots.look import Look
from harness.show.plots.sheet import Sheet
from harness.show.plots.texts import metric_text, panel_names, scaled, written

HEIGHT = 1.45
MOST_BESIDE = {True: 2, False: 4}  # by whether the picture is as narrow as a column


def draw_length(data: PictureData[LengthRow], look: Look) -> Sheet:
    """Draw the picture."""
    kinds = list(dict.fromkeys((row.task, row.metric, row.unit) for row in data.rows))
    one = len(kinds) == 1
    sheet = Sheet(
        look, len(kinds), HEIGHT * (1.15 if one else 1), MOST_BESIDE[look.width < 5], len({k[2] for k in kinds}) == 1
    )
    names = data.values("model")
    strokes = look.strokes(names, [row.model for row in data.rows if row.published])
    for axes, (task, metric, unit) in zip(sheet.panels, kinds, strict=True):
        rows = [row for row in data.rows if (row.task, row.metric) == (task, metric)]
        score_axis(axes, unit, look)
        for name in names:
            own = sorted((row for row in rows if row.model == name), key=lambda row: row.length)
            if own:
                draw_line(axes, [row.length for row in own], own, strokes[name], 0.08 if own[0].published else 0.16)
        length_axis(axes, [row.length for row in rows])
        if data.threshold is not None and unit == "share":
            axes.axhline(data.threshold, color=look.quiet, linestyle=(0, (1, 1.5)), linewidth=0.8)
    sheet.name_panels(panel_names([kind[:2] for kind in kinds]))
    sheet.name_axes("length (tokens)", [metric_text(metric, unit) for _, metric, unit in kinds])
    is_trained = trained_lines(sheet, data.trained, strokes)
    if fit_at_ends(sheet, [written(name) for name in names], HEIGHT):
        last = {row.model: row for row in sorted(data.rows, key=lambda row: row.length)}
        ends = [End(row.length, scaled(row.value, row.unit), name, strokes[name].color) for name, row in last.items()]
        name_ends(sheet, sheet.panels[0], ends)
        name_trained(sheet.panels[0], data.trained.values(), look)
    else:
        extra = {"length in training": trained_handle(look)} if is_trained else {}
        sheet.legend([*handles_of(strokes), *extra.values()], [*names, *extra])
    return sheet
