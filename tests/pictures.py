"""Runs and data for tests of pictures, and what their texts do on the page."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import records

from harness.analysis.selection import FoundRun
from harness.records.record import FILE_NAME, Cell, RunRecord
from harness.records.samples import Sample, write_samples

if TYPE_CHECKING:
    from matplotlib.text import Text

    from harness.show.plots.sheet import Sheet

HOSTILE = (
    "a$b^{x}$_\\frac{1}{0}",
    "two\nlines\x1b[2J",
    "模型-中文",
    "<script>alert(1)</script>",
    "a-very-long-name-of-a-model-that-somebody-gave-to-a-checkpoint-of-a-training-with-seed-1-and-more-of-it",
    "a-very-long-name-of-a-model-that-somebody-gave-to-a-checkpoint-of-a-training-with-seed-2-and-more-of-it",
    "-",
)


def save(folder: Path, record: RunRecord, samples: Sequence[Sample] = ()) -> FoundRun:
    """A run's folder, with a file of samples if there are some."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_text(record.to_json(), encoding="utf-8")
    if samples:
        write_samples(folder, samples)
    return FoundRun(folder, record)


def needles(cell: Cell, right: Sequence[tuple[float, bool]]) -> list[Sample]:
    """Samples of a cell: the depth of each, and whether it is right."""
    return [
        Sample(
            task=cell.lm_eval_name,
            index=index,
            sample=f"{index}",
            prompt="p",
            cluster=f"{index}",
            scores={"acc": float(is_right)},
            depth=depth,
        )
        for index, (depth, is_right) in enumerate(right)
    ]


def run_of(name: str, values: dict[tuple[str, int], float], **changes: object) -> FoundRun:
    """A run without a folder: scores by task and length."""
    cells = tuple(records.cell(task, length, value) for (task, length), value in values.items())
    return FoundRun(Path(name), records.record(name, cells, **changes))


def texts(sheet: Sheet) -> list[Text]:
    """The texts that are seen."""
    from matplotlib.text import Text

    found: list[Text] = sheet.figure.findobj(Text)
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def faults(sheet: Sheet) -> Iterator[str]:
    """Texts outside the canvas, and pairs that overlap."""
    width, height = sheet.figure.bbox.width, sheet.figure.bbox.height
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(sheet)]
    for name, box in boxes:
        if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1:
            yield f"outside: {name!r} {box.extents} of {width} x {height}"
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        if across > 1 and down > 1.5:
            yield f"overlap: {one!r} and {other!r} by {across:.0f} x {down:.0f}"
