"""`plot matrix`: every model against every other, a cell a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.patches import Rectangle

from harness.analysis.matrix import DifferenceRow
from harness.analysis.picture_data import PictureData
from harness.show.plots.look import Look
from harness.show.plots.sheet import Sheet, set_ticks
from harness.show.plots.texts import fitted_names, scaled, width_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TALLEST = 0.36  # inches of a cell
NAMES = (0.42, 0.36, 0.3, 0.24)  # of the width for the names of rows: the first that leaves room for the figures
BESIDE = 0.25  # inches for a number behind a name, and margins
LEAST = 0.16  # inches of a cell's height
SMALLEST = 5.5  # points


def draw_matrix(data: PictureData[DifferenceRow], look: Look) -> Sheet:
    """Draw the picture: a cell says how much better the model of its row is than that of its column."""
    models = list(dict.fromkeys([*data.values("a"), *data.values("b")]))
    texts = {(row.a, row.b): _text(row, 1) for row in data.rows} | {(row.b, row.a): _text(row, -1) for row in data.rows}
    for share in NAMES:
        names = fitted_names(models, look.width * share)
        cell = (look.width - max(width_of(name) for name in names.values()) - BESIDE) / len(models)
        if (size := _size(list(texts.values()), cell)) is not None:
            break
    sheet = Sheet(look, 1, min(max(cell, LEAST), TALLEST) * len(models) + 0.3, 1)
    (axes,) = sheet.panels
    largest = max((abs(row.difference) for row in data.rows), default=0.0) or 1.0
    for row in data.rows:
        for one, other, sign in ((row.a, row.b, 1), (row.b, row.a, -1)):
            corner = (models.index(other), models.index(one))
            shade = _shade(row, sign / largest, look)
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=shade, edgecolor=look.grid, linewidth=0.5))
            if size is not None:
                style = {**_style(row, shade, look), "fontsize": size, "ha": "center", "va": "center_baseline"}
                axes.text(corner[0] + 0.5, corner[1] + 0.5, texts[one, other], **style)
    for place in range(len(models)):
        axes.add_patch(Rectangle((place, place), 1, 1, facecolor=look.grid, edgecolor=look.ground, linewidth=0.8))
    _name_models(axes, list(names.values()), cell)
    points = "points of a hundred" if data.values("unit") == ["share"] else "how much"
    sheet.figure.supxlabel(f"{points} that the row is better;\nbold and coloured: told apart (5 %, Holm)", fontsize=7)
    return sheet


def _shade(row: DifferenceRow, scale: float, look: Look) -> Any:
    """Coloured by who is better where they are told apart, else as the ground is."""
    return matplotlib.colormaps["PuOr"](0.5 + 0.42 * row.difference * scale) if row.told_apart else look.ground


def _style(row: DifferenceRow, shade: Any, look: Look) -> dict[str, Any]:
    """Of the figure in a cell of this colour."""
    if not row.told_apart:
        return {"color": look.quiet}
    red, green, blue = (float(part) for part in matplotlib.colors.to_rgb(shade))
    is_light = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
    return {"color": "#101010" if is_light else "#F4F4F4", "fontweight": "bold"}


def _text(row: DifferenceRow, sign: int) -> str:
    value = scaled(row.difference * sign, row.unit)
    text = f"{value:+.1f}" if row.unit == "share" else f"{value:+.3g}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def _size(texts: list[str], cell: float) -> float | None:
    """The size in which all texts fit into their cells; None for none."""
    sizes = (7.0, 6.5, 6.0, SMALLEST)
    return next((size for size in sizes if all(width_of(text, size) * 1.12 <= cell * 0.92 for text in texts)), None)


def _name_models(axes: Axes, names: list[str], cell: float) -> None:
    """Names before the rows; above the columns too where they fit, else the numbers of the rows."""
    fits = all(width_of(name) <= cell * 0.95 for name in names)
    numbers = [str(number) for number in range(1, len(names) + 1)]
    rows = names if fits else [f"{name}  {number}" for name, number in zip(names, numbers, strict=True)]
    set_ticks(axes, "y", [place + 0.5 for place in range(len(names))], rows)
    set_ticks(axes, "x", [place + 0.5 for place in range(len(names))], names if fits else numbers)
    axes.xaxis.tick_top()
    axes.set_xlim(0, len(names))
    axes.set_ylim(len(names), 0)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
