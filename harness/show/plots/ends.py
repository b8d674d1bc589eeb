"""Names at the ends of lines, instead of a legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.show.plots.sheet import Sheet
from harness.show.plots.texts import fitted_names, width_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE = 8.2  # points from one name to the next
WIDEST = 0.36  # of the picture, for the names as they are written
LONGEST = 0.6  # of the picture, for a name that may be cut to that
GAP = 5.0  # points between the panel and the names
LEADER = 1.5  # points that a name is moved before a line leads to it


@dataclass(frozen=True)
class End:
    """Where a line ends, and what it is called.

    Attributes:
        x: of its last point, in data coordinates.
        y: of its last point.
        name: as it is written.
        color: of the line.
    """

    x: float
    y: float
    name: str
    color: str


def fit_at_ends(sheet: Sheet, names: Sequence[str], height: float) -> bool:
    """Whether names fit beside the only panel of a sheet, whose height in inches this is."""
    widest = max((width_of(name) for name in names), default=0.0)
    return len(sheet.panels) == 1 and len(names) * LINE <= height * 72 and widest <= LONGEST * sheet.look.width


def name_ends(sheet: Sheet, axes: Axes, ends: Sequence[End]) -> None:
    """Write the names to the right of a panel, each as near to the end of its line as the others let it."""
    short = fitted_names([end.name for end in ends], WIDEST * sheet.look.width)
    texts = [
        axes.annotate(
            short[end.name],
            (1, 0.5),
            xycoords="axes fraction",
            xytext=(GAP, 0),
            textcoords="offset points",
            va="center",
            ha="left",
            color=end.color,
            annotation_clip=False,
        )
        for end in ends
    ]

    def spread() -> None:
        box = axes.get_window_extent()
        point = sheet.figure.dpi / 72
        wanted = [float(axes.transData.transform((end.x, end.y))[1]) for end in ends]
        places = spread_out(wanted, LINE * point, box.y0, box.y1)
        for end, text, want, place in zip(ends, texts, wanted, places, strict=True):
            text.xy = (1, (place - box.y0) / box.height)
            x = float(axes.transData.transform((end.x, end.y))[0])
            if abs(place - want) > LEADER * point or box.x1 - x > 2 * GAP * point:
                axes.annotate(
                    "",
                    (end.x, end.y),
                    xytext=((box.x1 + (GAP - 1) * point - box.x0) / box.width, (place - box.y0) / box.height),
                    textcoords="axes fraction",
                    annotation_clip=False,
                    arrowprops={"arrowstyle": "-", "color": end.color, "linewidth": 0.4, "alpha": 0.7,
                                "shrinkA": 0, "shrinkB": 1.5},
                )  # fmt: skip

    sheet.finishing.append(spread)


def spread_out(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near the wanted ones, a gap apart, between two bounds where there is room.

    Neighbours that are too near become a block around the mean of their wishes; blocks that touch are joined.
    """
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    blocks: list[tuple[float, list[int]]] = []
    for index in order:
        centre, members = min(max(wanted[index], low), high), [index]
        while (
            blocks and blocks[-1][0] + (len(blocks[-1][1]) - 1) * gap / 2 + gap > centre - (len(members) - 1) * gap / 2
        ):
            _, before = blocks.pop()
            members = [*before, *members]
            half = (len(members) - 1) * gap / 2
            centre = sum(wanted[i] for i in members) / len(members)
            centre = max(min(centre, high - half), low + half)
        blocks.append((centre, members))
    places = [0.0] * len(wanted)
    for centre, members in blocks:
        for rank, index in enumerate(members):
            places[index] = centre + (rank - (len(members) - 1) / 2) * gap
    return places
