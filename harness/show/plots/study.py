"""`plot study`: accuracy of a study's models over pairs, over writes of fewer keys, and over lengths of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import log2
from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D

from harness.analysis.picture_data import PictureData
from harness.show.plots.lines import handles_of, score_axis
from harness.show.plots.look import Look, Stroke
from harness.show.plots.sheet import Sheet, set_ticks
from harness.show.plots.texts import fitted, scaled, width_of, written
from harness.study.curves import StudyRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 2.3
TITLES = {
    "recall": "recall: each key is written once",
    "overwriting": "overwriting: the last value counts",
    "parity": "parity of bits",
    "arithmetic": "arithmetic modulo five",
}
CAPTION = "marks: mean over seeds; bars: 95 % interval of the mean (Student's t); dots: seeds"
BANDS = "in a band: models at one test"
X_NAMES = {"recall": "pairs", "overwriting": "writes, and keys among them"}
X_NAME = "length of a row (tokens)"
CHANCE, TRAINED = "chance", "longest length in training"
SHARE = 0.75  # of the least distance of two tests, at most, for the marks of one of them
WIDEST = 0.55  # doublings, for the same
AROUND = 0.07  # doublings, on each side of them in a test's band
BAR = 1.8  # points across an interval
MARK, EDGE = 3.2, 0.3  # points of a mark, and around it
SMALL = 6.0  # points of notes


def draw_study(data: PictureData[StudyRow], look: Look) -> Sheet:
    """Draw the picture; the models of a test stand side by side, so that no interval hides another."""
    kinds = data.values("kind")
    sheet = Sheet(look, len(kinds), HEIGHT, 1 if look.width < 5 else 2)
    strokes = look.strokes(data.values("model"))
    guides: dict[str, Line2D] = {}
    for axes, kind in zip(sheet.panels, kinds, strict=True):
        rows = [row for row in data.rows if row.kind == kind]
        score_axis(axes, "share", look)
        _draw_models(axes, rows, strokes, look)
        _test_axis(axes, rows, kind)
        guides |= _draw_guides(axes, rows[0], look)
    sheet.name_panels([_title(kind) for kind in kinds])
    for number, axes in enumerate(sheet.panels):
        if number % sheet.columns == 0:
            axes.set_ylabel("accuracy (%)")
    sheet.legend([*handles_of(strokes), *guides.values()], [*strokes, *guides], is_whole=True)
    _write_notes(sheet, [f"{CAPTION}; {BANDS}" if len(strokes) > 1 else CAPTION, *data.notes])
    return sheet


def _title(kind: str) -> str:
    name, *rest = kind.split(", ")
    return ", ".join([TITLES.get(name, name), *rest])


def _draw_models(axes: Axes, rows: Sequence[StudyRow], strokes: Mapping[str, Stroke], look: Look) -> None:
    """A line through the means, a bar for each interval, a small point for each seed; marks lie above all lines.

    Each test has a band, and lines are faint: where accuracy falls fast, what stands further right would look better.
    """
    sizes = sorted({log2(row.size) for row in rows})
    share = min(SHARE, (len(strokes) - 1) / (len(strokes) + 1))  # two tests are further apart than two models of one
    apart = [after - before for before, after in pairwise(sizes)]
    reach = min([WIDEST, *(share * gap for gap in apart)])
    if len(strokes) > 1:
        side = 2 ** (reach / 2 + min([AROUND, *(0.4 * (gap - reach) for gap in apart)]))
        for size in sizes:
            axes.axvspan(2**size / side, 2**size * side, color=look.quiet, alpha=0.1, linewidth=0, zorder=0)
    for place, (name, stroke) in enumerate(strokes.items()):
        own = [row for row in rows if row.model == name]
        aside = 2 ** (reach * (place / (len(strokes) - 1) - 0.5)) if len(strokes) > 1 else 1.0
        ends = [(row.size * aside, scaled(end, "share")) for row in own for end in (row.low, row.high, None)]
        axes.plot(
            [x for x, _ in ends], [y for _, y in ends], color=stroke.color, linewidth=BAR, alpha=0.3,
            solid_capstyle="butt", zorder=1.5,
        )  # fmt: skip
        seeds = [(row.size * aside, scaled(seed, "share")) for row in own for seed in row.seeds]
        axes.plot(
            [x for x, _ in seeds], [y for _, y in seeds], color=stroke.color, linestyle="none", marker=".",
            markersize=2.2, markeredgewidth=0, clip_on=False, zorder=2.6,
        )  # fmt: skip
        means = [row.size * aside for row in own], [scaled(row.value, "share") for row in own]
        axes.plot(*means, color=stroke.color, linestyle=stroke.dashes, linewidth=0.8, alpha=0.45, zorder=2.5)
        axes.plot(
            *means, color=stroke.color, linestyle="none", marker=stroke.marker, markersize=MARK + EDGE,
            markeredgecolor=look.ground, markeredgewidth=EDGE, clip_on=False, zorder=3,
        )  # fmt: skip


def _test_axis(axes: Axes, rows: Sequence[StudyRow], kind: str) -> None:
    """The x axis of tests: each doubling is one step; below writes the keys that they are of."""
    axes.set_xscale("log", base=2)
    tests = {place: [row for row in rows if row.size == place] for place in sorted({row.size for row in rows})}
    set_ticks(axes, "x", [float(place) for place in tests], [_tick(place, own) for place, own in tests.items()])
    places = [*tests]
    reach = log2(places[-1] / places[0])
    room = 2 ** max(0.4, 0.09 * reach)
    axes.set_xlim(places[0] / room, places[-1] * room)
    axes.set_xlabel(X_NAMES.get(kind, X_NAME), labelpad=2)


def _tick(place: int, rows: Sequence[StudyRow]) -> str:
    """What is written below a test: its size, and what else sets tests of a panel apart."""
    if rows[0].kind == "overwriting":
        return f"{place}\n{', '.join(map(str, sorted({row.keys for row in rows if row.keys is not None})))} keys"
    from_to = sorted({row.shortest for row in rows if row.shortest is not None})
    return ", ".join(f"{shortest}–{place}" for shortest in from_to) or f"{place}"


def _draw_guides(axes: Axes, row: StudyRow, look: Look) -> dict[str, Line2D]:
    """The lines of a language's panel that the axis reaches, and what stands for them in the legend."""
    drawn: dict[str, Line2D] = {}
    low, high = axes.get_xlim()
    if row.trained is not None and low < row.trained < high:
        line = _guide(look, (3, 2))
        axes.axvline(row.trained, **line, zorder=1)
        drawn[TRAINED] = Line2D([], [], **line)
    if row.chance is not None:
        line = _guide(look, (1, 1.5))
        axes.axhline(scaled(row.chance, "share"), **line, zorder=1)
        drawn[CHANCE] = Line2D([], [], **line)
    return drawn


def _guide(look: Look, dashes: tuple[float, float]) -> dict[str, Any]:
    return {"color": look.quiet, "linestyle": (0, dashes), "linewidth": 0.8}


def _write_notes(sheet: Sheet, notes: Sequence[str]) -> None:
    """Below all panels, in as many lines as they need."""
    room = sheet.look.width - 0.2
    lines = [fitted(line, room, SMALL) for note in notes for line in _wrapped(written(note), room)]
    width, height = sheet.figure.get_size_inches()
    sheet.figure.set_size_inches(width, height + 0.1 * len(lines))
    sheet.figure.supxlabel(
        "\n".join(lines), fontsize=SMALL, color=sheet.look.quiet, x=0.07 / width, ha="left", linespacing=1.15
    )


def _wrapped(text: str, inches: float) -> list[str]:
    """A note in lines, broken behind semicolons where there are any, else between words."""
    parts = text.replace("; ", ";\n").split("\n") if "; " in text else text.split(" ")
    lines = [parts[0]]
    for part in parts[1:]:
        if width_of(f"{lines[-1]} {part}", SMALL) <= inches:
            lines[-1] += f" {part}"
        else:
            lines.append(part)
    return lines
