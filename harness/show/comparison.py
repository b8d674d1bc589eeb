"""A comparison in a terminal: two or three models task by task, more of them as a matrix."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.analysis.comparison import MeanComparison, ModelComparison, PairComparison, TaskComparison
from harness.show import comparison_text as text
from harness.show.plain import plain

WIDE = 118
NAME_WIDTH, FIELD_WIDTH = 18, 11
"""Letters of the longest name, and of the longest field, such as `100/100/100`."""
STYLES = {"A better": "bold green", "B better": "bold magenta", "not told apart": "dim", "not tested": "dim italic"}


def print_comparison(comparison: ModelComparison, console: Console, details: bool = False) -> None:
    """Draw a comparison.

    Args:
        comparison: what is drawn.
        console: where.
        details: whether every pair is shown task by task, however many models there are.
    """
    console.print(Text(f"{plain(comparison.title)}: {', '.join(map(plain, comparison.models))}", style="bold"))
    notes = text.Notes()
    if len(comparison.models) > 2:
        _print_matrix(comparison, console)
    if details or len(comparison.models) <= text.FEW_MODELS:
        for pair in comparison.pairs:
            if pair.tasks:
                _print_pair(pair, console, notes)
        console.print(Text(text.legend(comparison), style="dim"))
    for line in (text.corrected(comparison.tests), *text.apart_alone(comparison)):
        console.print(Text(line, style="dim"))
    for place, note in enumerate(notes.texts, 1):
        console.print(Text(f"[{place}] {plain(note)}", style="dim"))
    for sentence in text.sentences(comparison):
        console.print(Text(plain(sentence), style="yellow"))


def comparison_to_text(comparison: ModelComparison, width: int = 120) -> str:
    """The same without colours, as text, with every pair."""
    console = Console(width=width, record=True, file=io.StringIO(), color_system=None)
    print_comparison(comparison, console, details=True)
    return console.export_text()


def _print_pair(pair: PairComparison, console: Console, notes: text.Notes) -> None:
    console.print()
    console.print(Text(f"A = {plain(pair.a)}   B = {plain(pair.b)}", style="bold"))
    common = text.common_remarks(pair)
    for remark in common:
        console.print(Text(plain(remark), style="yellow"))
    wide = console.width >= WIDE
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    drawn.add_column("", overflow="fold")
    titles = ("A", "B", "A−B", "95 %", *(("wins/losses/ties", "found", "p") if wide else ()))
    for title in titles:
        drawn.add_column(title, justify="right", no_wrap=True)
    drawn.add_column("", no_wrap=True)
    for task in pair.tasks:
        own = [remark for remark in text.remarks(task) if remark not in common]
        _add_task(drawn, task, text.label(task, pair), notes.numbers(own), wide)
    if pair.means:
        drawn.add_section()
    for mean in pair.means:
        _add_mean(drawn, mean, wide)
    console.print(drawn)


def _add_task(drawn: Table, task: TaskComparison, label: str, notes: Sequence[int], wide: bool) -> None:
    marks = "".join(f" [{number}]" for number in notes)
    name = Text(plain(label) + ("" if task.higher_is_better else " ↓"))
    name.append(marks if wide else "", style="dim")
    drawn.add_row(
        name,
        text.number(task.a, task.unit),
        text.number(task.b, task.unit),
        text.number(task.difference, task.unit, signed=True),
        Text(text.interval(task.low, task.high, task.unit, wide), style="dim"),
        *((text.counts(task), text.found(task), text.p_value(task.p_corrected)) if wide else ()),
        Text(task.verdict, style=STYLES[task.verdict]),
    )
    if not wide:
        below = Text(f"  {text.counts(task)}{marks}", style="dim")
        drawn.add_row(below, "", "", "", Text(f"found: {text.found(task)}", style="dim"), _p_below(task))


def _add_mean(drawn: Table, mean: MeanComparison, wide: bool) -> None:
    drawn.add_row(
        Text(plain(f"mean of {mean.label} ({mean.places})"), style="italic"),
        "",
        "",
        text.number(mean.difference, mean.unit, signed=True),
        Text(text.interval(mean.low, mean.high, mean.unit, wide), style="dim"),
        *(("", text.found(mean), text.p_value(mean.p_corrected)) if wide else ()),
        Text(mean.verdict, style=STYLES[mean.verdict]),
    )
    if not wide:
        drawn.add_row("", "", "", "", "", _p_below(mean))


def _p_below(row: TaskComparison | MeanComparison) -> Text:
    """The p of a row, below its verdict."""
    return Text(f"p {text.p_value(row.p_corrected)}", style="dim")


def _print_matrix(comparison: ModelComparison, console: Console) -> None:
    """As many columns side by side as fit, the rest below."""
    for columns in _in_lines(comparison.models, console.width):
        console.print()
        console.print(_matrix(comparison, columns))
    console.print(Text(text.MATRIX_LEGEND, style="dim"))


def _in_lines(models: Sequence[str], width: int) -> list[list[str]]:
    """The columns of each part of a matrix, as wide as their names or fields."""
    widths = {name: min(NAME_WIDTH, max(FIELD_WIDTH, len(plain(name)))) + 2 for name in models}
    free = first = width - max(min(NAME_WIDTH, len(plain(name))) for name in models) - 2
    lines: list[list[str]] = [[]]
    for name in models:
        if widths[name] > free and lines[-1]:
            lines.append([])
            free = first
        lines[-1].append(name)
        free -= widths[name]
    return lines


def _matrix(comparison: ModelComparison, columns: Sequence[str]) -> Table:
    pairs = {(pair.a, pair.b): pair for pair in comparison.pairs}
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    drawn.add_column("", max_width=NAME_WIDTH, overflow="fold")
    for name in columns:
        drawn.add_column(Text(plain(name)), justify="right", max_width=NAME_WIDTH, overflow="fold")
    for row in comparison.models:
        drawn.add_row(
            Text(plain(row)),
            *(_against(pairs.get((row, column)), pairs.get((column, row))) for column in columns),
            end_section=False,
        )
    return drawn


def _against(pair: PairComparison | None, exchanged: PairComparison | None) -> Text:
    """One field: the row against the column."""
    shown = pair or exchanged
    if shown is None:
        return Text("·", style="dim")
    if not shown.tasks:
        return Text("—", style="dim")
    ours, theirs = ("A better", "B better") if pair is not None else ("B better", "A better")
    mean = text.mean_of(shown)
    found = Text()
    if mean is not None:
        sign = 1 if pair is not None else -1
        style = "" if mean.verdict.startswith("not") else "bold green" if mean.verdict == ours else "bold magenta"
        found.append(text.number(sign * mean.difference, mean.unit, signed=True) + "\n", style=style)
    undecided = shown.count("not told apart") + shown.count("not tested")
    found.append(f"{shown.count(ours)}/{shown.count(theirs)}/{undecided}")  # type: ignore[arg-type]
    if mean is not None:
        found.append(f"\np {text.p_value(mean.p_corrected)}", style="dim")
    return found
