"""A figure with panels: laid out once, so that every format of it is the same picture."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import matplotlib
import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import NullLocator

from harness.show.plots.look import Look
from harness.show.plots.texts import fitted_names, width_of

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.text import Text

Kind = Literal["png", "svg", "pdf"]
DPI = 300
NAMELESS: dict[Kind, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None},
}
"""Metadata that would make two equal pictures differ."""
EM = 7 / 72  # inches
OWN_FONT, FONTS = b"font-family: 'DejaVu Sans'", b"font-family: 'DejaVu Sans', Verdana, sans-serif"
"""Texts of an SVG are shown in the reader's fonts: where DejaVu is not there, in one of nearly the same widths."""


@contextmanager
def drawn_as(look: Look) -> Iterator[None]:
    """Matplotlib's settings while a sheet is made and written; the user's own are as before afterwards."""
    with matplotlib.style.context(["default", look.settings()], after_reset=True):
        yield


class Sheet:
    """A figure of panels, filled row by row.

    Args:
        look: how it looks.
        panels: how many there are.
        height: of one panel, in inches, without what stands around it.
        columns: at most so many beside each other.
        share_y: whether the panels of all rows have one y axis.

    Attributes:
        figure: matplotlib's.
        panels: their axes.
        columns: how many stand beside each other.
        finishing: what is called when the layout is known.
    """

    def __init__(self, look: Look, panels: int, height: float, columns: int, share_y: bool = True) -> None:
        self.look, self.columns = look, max(min(columns, panels), 1)
        self.rows = math.ceil(panels / self.columns)
        self.figure = Figure(figsize=(look.width, self.rows * height + 0.45), dpi=DPI)
        FigureCanvasAgg(self.figure)
        self.figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.035, h_pad=0.035, wspace=0.03, hspace=0.03))
        grid = self.figure.subplots(self.rows, self.columns, squeeze=False, sharex=False, sharey=share_y)
        everything: list[Axes] = list(grid.flat)
        for empty in everything[panels:]:
            empty.remove()
        self.panels = everything[:panels]
        self.finishing: list[Callable[[], None]] = []

    def name_panels(self, names: Sequence[str | tuple[str, ...]]) -> None:
        """Write above each panel what it shows.

        Args:
            names: of each panel, on one line or several; each line is cut to the width of the narrowest panel.
        """
        lines = [(name,) if isinstance(name, str) else name for name in names]
        for axes, own in zip(self.panels, lines, strict=True):
            axes.set_title("\n".join("name" for _ in own), loc="left", pad=3)  # as high as it will be

        def fit() -> None:
            room = min(axes.get_window_extent().width for axes in self.panels) / DPI
            short = [fitted_names(list(dict.fromkeys(part)), room) for part in zip(*lines, strict=True)]
            for axes, own in zip(self.panels, lines, strict=True):
                axes.set_title("\n".join(part[line] for part, line in zip(short, own, strict=True)), loc="left", pad=3)

        self.finishing.append(fit)

    def name_axes(self, x: str, y: str | Sequence[str]) -> None:
        """Write what the axes are: once for all panels, or at each panel where their y axes differ.

        Args:
            x: of all panels.
            y: of all panels, or of each.
        """
        names = [y] * len(self.panels) if isinstance(y, str) else list(y)
        if len(set(names)) == 1:
            self._name_y(names[0])
        else:
            for axes, name in zip(self.panels, names, strict=True):
                axes.set_ylabel(name)
        if self.columns == 1:
            self.panels[-1].set_xlabel(x)
        else:
            self.figure.supxlabel(x, fontsize=7)

    def _name_y(self, name: str) -> None:
        if self.rows == 1:
            self.panels[0].set_ylabel(name)
        else:
            self.figure.supylabel(name, fontsize=7)

    def legend(
        self, handles: Sequence[Artist], names: Sequence[str], handle: float = 1.6, is_whole: bool = False
    ) -> None:
        """Put a legend above the panels, in as few lines as the width holds.

        Args:
            handles: of the names.
            names: cut where they are too long; shorter if that lets two stand beside each other.
            handle: how long what stands before a name is, in widths of a letter.
            is_whole: cut only names that have no room on a line of their own.
        """
        most, spare = self.look.width - 0.2, (handle + 0.65) * EM
        for share in (1, 2) if len(names) > 2 and not is_whole else (1,):
            found = fitted_names(list(names), (most - (share - 1) * EM) / share - spare)
            short = [found[name] for name in names]  # one name may stand for two things
            columns = next(n for n in range(len(short), 0, -1) if n == 1 or _legend_width(short, n, spare) <= most)
            if columns > 1:
                break
        self.figure.legend(
            handles,
            short,
            loc="outside upper left",
            ncols=columns,
            handlelength=handle,
            handletextpad=0.5,
            columnspacing=1.0,
            borderpad=0.1,
            borderaxespad=0.3,
            labelspacing=0.3,
        )
        width, height = self.figure.get_size_inches()
        self.figure.set_size_inches(width, height + 0.16 * math.ceil(len(short) / columns) + 0.05)

    def settle(self) -> None:
        """Lay everything out, for good."""
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")
        for finish in self.finishing:
            finish()
        for axes in self.panels:
            _thin(axes.get_xticklabels(), 0, 6.0)
            _thin(axes.get_yticklabels(), 1, 1.0)

    def to_bytes(self, kind: Kind) -> bytes:
        """The file of a settled sheet; the same data give the same bytes."""
        out = io.BytesIO()
        metadata: dict[str, Any] = dict(NAMELESS[kind])
        self.figure.savefig(out, format=kind, metadata=metadata, dpi=DPI)
        return out.getvalue() if kind != "svg" else out.getvalue().replace(OWN_FONT, FONTS)


def set_ticks(axes: Axes, which: Literal["x", "y"], places: Sequence[float], names: Sequence[str]) -> None:
    """Put ticks at these places and nowhere else; where names would touch, some are left out when it is laid out."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(list(places), labels=list(names))
    axis.set_minor_locator(NullLocator())


def _legend_width(names: Sequence[str], columns: int, spare: float) -> float:
    """Inches of a legend that fills column after column, as matplotlib's does."""
    rows, more = divmod(len(names), columns)
    total, begin = 0.0, 0
    for column in range(columns):
        end = begin + rows + (column < more)
        total += spare + max((width_of(name) for name in names[begin:end]), default=0.0)
        begin = end
    return total + (columns - 1) * EM


def _thin(labels: Sequence[Text], side: int, gap: float) -> None:
    """Leave out tick labels that would touch, evenly, from the first one on."""
    boxes = [label.get_window_extent() for label in labels if label.get_text()]
    shown = [label for label in labels if label.get_text()]
    pixels = gap * DPI / 72 / 2
    for step in range(1, len(shown) + 1):
        kept = sorted(
            (boxes[i].bounds[side], boxes[i].bounds[side] + boxes[i].bounds[side + 2])
            for i in range(0, len(shown), step)
        )
        if all(after[0] - before[1] >= pixels for before, after in pairwise(kept)):
            break
    for position, label in enumerate(shown):
        if position % step:
            label.set_text("")
            label.set_visible(False)
