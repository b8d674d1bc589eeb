"""How pictures look: sizes, colours that the colour-blind can tell apart, light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from basis.names import or_near
from harness.errors import UserError

WIDTHS = {"column": 3.3, "page": 6.9}
"""Inches of a column and of the page of a paper with two columns."""
NARROWEST, WIDEST = 2.5, 40.0
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of Okabe and Ito (2008), without yellow, which white swallows."""
ON_DARK = ("#56B4E9", "#E69F00", "#2BBF95", "#CC79A7", "#F2733C", "#F0E442", "#FFFFFF")
"""The same, lighter where a dark ground swallows them."""
DASHES = ("solid", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))
MARKERS = "osD^vPX"
ROUND_SHIFT = 3  # of marks, each time that colours begin anew: no two of 49 models have one colour and one mark


@dataclass(frozen=True)
class Look:
    """How a picture looks.

    Attributes:
        width: inches.
        dark: light on dark, instead of dark on light.
    """

    width: float = WIDTHS["column"]
    dark: bool = False

    @property
    def ground(self) -> str:
        """The colour behind everything."""
        return "#15171C" if self.dark else "#FFFFFF"

    @property
    def ink(self) -> str:
        """The colour of texts."""
        return "#E8E8E8" if self.dark else "#1A1A1A"

    @property
    def quiet(self) -> str:
        """The colour of what is beside the point."""
        return "#A3A8B0" if self.dark else "#6A6A6A"

    @property
    def grid(self) -> str:
        """The colour of lines that guide the eye."""
        return "#333842" if self.dark else "#E2E2E2"

    def settings(self) -> dict[str, Any]:
        """Of matplotlib, on top of its own defaults: nothing of the user's files reaches a picture."""
        return {
            "font.family": "DejaVu Sans",  # comes with matplotlib, so layouts are the same everywhere
            "font.size": 7,
            "axes.titlesize": 7,
            "axes.labelsize": 7,
            "xtick.labelsize": 7,
            "ytick.labelsize": 7,
            "legend.fontsize": 7,
            "text.parse_math": False,  # a `$` in a name is a `$`
            "axes.linewidth": 0.6,
            "axes.edgecolor": self.quiet,
            "axes.labelcolor": self.ink,
            "axes.titlecolor": self.ink,
            "axes.facecolor": self.ground,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "axes.unicode_minus": True,
            "figure.facecolor": self.ground,
            "savefig.facecolor": self.ground,
            "text.color": self.ink,
            "grid.color": self.grid,
            "grid.linewidth": 0.5,
            "xtick.color": self.quiet,
            "ytick.color": self.quiet,
            "xtick.labelcolor": self.ink,
            "ytick.labelcolor": self.ink,
            "xtick.major.width": 0.6,
            "ytick.major.width": 0.6,
            "xtick.major.size": 2.5,
            "ytick.major.size": 2.5,
            "xtick.minor.size": 0,
            "ytick.minor.size": 0,
            "lines.linewidth": 1.2,
            "lines.markersize": 3.2,
            "hatch.color": self.grid,
            "hatch.linewidth": 0.6,
            "legend.frameon": False,
            "svg.fonttype": "none",  # text stays text
            "pdf.fonttype": 42,
            "svg.hashsalt": "gdn2",
        }

    def strokes(self, names: Iterable[str], printed: Iterable[str] = ()) -> dict[str, Stroke]:
        """A stroke for each name, the same for the same names in the same order; those in `printed` are dashed."""
        dashed, palette = frozenset(printed), ON_DARK if self.dark else OKABE_ITO
        found: dict[str, Stroke] = {}
        for number, name in enumerate(names):
            round_ = number // len(palette)
            dashes = DASHES[1 + round_ % 3] if name in dashed else DASHES[round_ % len(DASHES)]
            mark = MARKERS[(number + ROUND_SHIFT * round_) % len(MARKERS)]
            found[name] = Stroke(palette[number % len(palette)], dashes, mark)
        return found


@dataclass(frozen=True)
class Stroke:
    """How one model is drawn: by colour and by mark, so that a grey print tells models apart, too."""

    color: str
    dashes: Any
    marker: str

    def line(self) -> Mapping[str, Any]:
        """For `Axes.plot`."""
        return {"color": self.color, "linestyle": self.dashes, "marker": self.marker, "markeredgewidth": 0}


def parse_width(text: str) -> float:
    """Read a width: `column`, `page` or inches.

    Raises:
        UserError: none of them, or too narrow or too wide for a picture.
    """
    if text in WIDTHS:
        return WIDTHS[text]
    try:
        width = float(text)
    except ValueError:
        width = 0.0
    if not NARROWEST <= width <= WIDEST:
        raise UserError(
            f"--width {text}: must be {', '.join(WIDTHS)} or a number of inches from {NARROWEST:g} to {WIDEST:g}"
            f"{or_near(text, WIDTHS)}"
        )
    return width
