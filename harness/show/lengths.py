"""How far models reach: effective lengths in a terminal, on GitHub, as JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.analysis.lengths import LengthReach
from harness.records.effective import BASE_SHARE, EffectiveLength
from harness.show.data import in_csv
from harness.show.plain import markdown, plain
from harness.words import short_length


def print_lengths(reaches: Sequence[LengthReach], console: Console) -> None:
    """Draw a table a model: what was tested, both effective lengths with their intervals, the training length."""
    for model in dict.fromkeys(reach.model for reach in reaches):
        own = [reach for reach in reaches if reach.model == model]
        trained = own[0].trained
        title = Text(plain(model), style="bold")
        title.append(f"  trained at {short_length(trained)}" if trained else "", style="not bold")
        console.print(title)
        drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        for name, side in zip(headings(own[0]), ("left", "left", "right", "right", "right"), strict=True):
            drawn.add_column(name, justify=side, no_wrap=name != "task", overflow="ellipsis")  # type: ignore[arg-type]
        for reach in own:
            style = "bold" if len(reach.tasks) > 1 else ""
            drawn.add_row(*(Text(plain(cell), style=style) for cell in cells(reach)))
        console.print(drawn)
        console.print()
    for sentence in length_remarks(reaches):
        console.print(Text(plain(sentence), style="dim"))


def lengths_to_text(reaches: Sequence[LengthReach], width: int = 100) -> str:
    """The same without colours, as text."""
    console = Console(width=width, record=True, file=io.StringIO(), color_system=None)
    print_lengths(reaches, console)
    return console.export_text()


def lengths_to_markdown(reaches: Sequence[LengthReach]) -> str:
    """One table with its remarks below."""
    lines = [
        f"| model | {' | '.join(headings(reaches[0]))} | trained |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for reach in reaches:
        trained = "—" if reach.trained is None else short_length(reach.trained)
        lines.append(f"| {markdown(reach.model)} | {' | '.join(map(markdown, cells(reach)))} | {trained} |")
    return "\n".join([*lines, "", *(f"- {markdown(sentence)}" for sentence in length_remarks(reaches))]) + "\n"


def lengths_to_json(reaches: Sequence[LengthReach]) -> str:
    """Everything, with the scores."""
    return json.dumps({"lengths": [asdict(reach) for reach in reaches]}, indent=2) + "\n"


def lengths_to_csv(reaches: Sequence[LengthReach]) -> str:
    """A row a model and task; an empty length is one below the shortest."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = ("length", "low", "high", "threshold", "open")
    titles = [f"{rule}_{end}" for rule in ("above", "own") for end in ends]
    writer.writerow(["model", "label", "metric", "shortest", "longest", "base", *titles, "trained", "published"])
    for reach in reaches:
        row: list[Any] = [reach.model, reach.label, reach.metric]
        row += [reach.curve[0].length, reach.curve[-1].length, round(reach.base, 6)]
        for found in (reach.above, reach.own):
            row += [None] * len(ends) if found is None else _ends(found)
        writer.writerow([in_csv(cell) for cell in (*row, reach.trained, reach.published)])
    return text.getvalue()


def headings(reach: LengthReach) -> tuple[str, ...]:
    """The names of the columns of a task's row."""
    return "task", "tested", f"> {100 * reach.above.threshold:.4g} %", "base", f"≥ {100 * BASE_SHARE:.0f} % of base"


def cells(reach: LengthReach) -> tuple[str, ...]:
    """A task's row as text."""
    lengths = [point.length for point in reach.curve]
    tested = short_length(lengths[0]) + (f" to {short_length(lengths[-1])}" if len(lengths) > 1 else "")
    return reach.label, tested, length_text(reach.above), f"{100 * reach.base:.1f}", length_text(reach.own)


def length_text(found: EffectiveLength | None) -> str:
    """An effective length with its interval: `4K (2K to ≥8K)`, `<1K`; ≥ where nothing longer was tested."""
    if found is None:
        return "—"
    own, low, high = (_end(found, length) for length in (found.length, found.low, found.high))
    again = "*" if found.again else ""
    return f"{own}{again}" if low == high == own else f"{own}{again} ({low} to {high})"


def length_remarks(reaches: Sequence[LengthReach]) -> list[str]:
    """What is to be known of these lengths."""
    said = [
        "the longest length that passes with all shorter ones; in brackets its 95 % interval, if it is no one length"
    ]
    if any(found.again for reach in reaches for found in (reach.above, reach.own) if found):
        said.append("* passes again at a longer length, which does not count")
    if any(reach.published for reach in reaches):
        said.append("papers' rows: intervals as of the suite's number of samples, which the papers do not state")
    notes: dict[str, list[str]] = {}
    for reach in reaches:
        for note in reach.notes:
            notes.setdefault(f"{reach.label}: {note}", []).append(reach.model)
    models = len(dict.fromkeys(reach.model for reach in reaches))
    return said + [note if len(of) == models else f"{', '.join(of)}, {note}" for note, of in notes.items()]


def _ends(found: EffectiveLength) -> list[Any]:
    return [found.length, found.low, found.high, round(found.threshold, 6), found.is_open]


def _end(found: EffectiveLength, length: int | None) -> str:
    if length is None:
        return f"<{short_length(found.tested[0])}"
    return ("≥" if length == found.tested[-1] else "") + short_length(length)
