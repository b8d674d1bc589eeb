"""A leaderboard in a terminal: as many column groups side by side as fit, the rest below."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from basis.program import as_called
from harness.records.table import Entry, Header, Row, Table
from harness.show.parts import shown_parts
from harness.show.plain import plain

NAME_WIDTH = 20  # of the column with names; more, up to three tenths of the terminal, where a name needs it
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def print_table(table: Table, console: Console) -> None:
    """Draw the table, its sections and its notes."""
    console.print(Text(plain(table.title), style="bold"))
    console.print(Text(plain(table.description), style="dim"))
    if not table.rows:
        console.print(as_called("no results yet; make some with `python run_eval.py run CHECKPOINT`"))
        return
    name_width = max(NAME_WIDTH, min(3 * console.width // 10, max(_name_widths(table))))
    parts, absent = shown_parts(table, _widths(table.headers), console.width - name_width - 1)
    for indices in parts:
        console.print()
        console.print(_group_line(table, indices, name_width))
        console.print(_page(table, indices, name_width))
    console.print()
    legend = [*(["score, 95 % interval, number of documents"] if table.has_intervals else []), *table.legend()]
    if legend:
        console.print("; ".join(legend), style="dim")
    for number, note in enumerate(table.notes, start=1):
        console.print(Text(f"{_marks((number,))} {plain(note)}", style="dim"))
    for sentence in (*absent, *table.remarks()):
        console.print(Text(plain(sentence), style="dim"))


def to_text(table: Table, width: int = 160) -> str:
    """The same without colours, as text."""
    console = Console(width=width, record=True, file=io.StringIO(), color_system=None)
    print_table(table, console)
    return console.export_text()


def _widths(headers: tuple[Header, ...]) -> list[int]:
    """Characters of each column with the space behind it.

    It holds its label, an interval such as 96–100 or 1.234–1.250, and its share of the group's name.
    """
    groups = Counter(header.group for header in headers)
    return [
        max(
            7 if header.decimals == 1 else 12,
            len(_label(header)) + 1,
            -(-(len(plain(header.group)) + 1) // groups[header.group]),
        )
        for header in headers
    ]


def _name_widths(table: Table) -> Iterator[int]:
    """The widths of what stands in the column with names."""
    for section in table.sections():
        yield _named(section.title, section.notes).cell_len
        yield from (_named(row.name, section.notes_at(row)).cell_len for row in section.rows)


def _label(header: Header) -> str:
    return plain(header.label) + ("" if header.higher_is_better else " ↓")


def _group_line(table: Table, indices: list[int], name_width: int) -> Text:
    """The names of groups, each above its columns."""
    widths = _widths(table.headers)
    line = " " * (name_width + 1)
    for group in dict.fromkeys(table.headers[i].group for i in indices):
        name = plain(group)
        width = sum(widths[i] for i in indices if table.headers[i].group == group)
        line += (f" {name} " if len(name) + 4 < width else name).center(width - 1, "─")[: width - 1] + " "
    return Text(line, style="bold")


def _page(table: Table, indices: list[int], name_width: int) -> RichTable:
    drawn = RichTable(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    drawn.add_column("", no_wrap=True, width=name_width, overflow="ellipsis")
    widths = _widths(table.headers)
    for index in indices:
        drawn.add_column(Text(_label(table.headers[index])), justify="right", no_wrap=True, width=widths[index] - 1)
    for position, section in enumerate(table.sections()):
        rows = [row for row in section.rows if any(row.entries[i] is not None for i in indices)]
        if not rows:
            continue  # nothing of it in this part of the table
        if position:
            drawn.add_section()
        drawn.add_row(_named(section.title, section.notes, "italic dim"))
        for row in rows:
            _add_row(drawn, table, row, indices, section.notes_at(row))
    return drawn


def _add_row(drawn: RichTable, table: Table, row: Row, indices: list[int], notes: Sequence[int]) -> None:
    """A model's numbers, and below them intervals and documents where there are any."""
    pairs = [(table.headers[i], row.entries[i]) for i in indices]
    marks = [() if entry is None else row.notes_at(entry) for _, entry in pairs]
    cells = [_cell(header, entry, notes) for (header, entry), notes in zip(pairs, marks, strict=True)]
    drawn.add_row(_named(row.name, notes), *cells)
    counted = any(entry is not None and entry.n is not None for _, entry in pairs)
    if counted or any(entry is not None and entry.low is not None for _, entry in pairs):
        drawn.add_row("", *(_interval(header, entry) for header, entry in pairs))
    if counted:
        drawn.add_row("", *(_count(entry) for _, entry in pairs))


def _named(name: str, notes: Sequence[int], style: str = "") -> Text:
    text = Text(plain(name), style=style)
    return text.append(f" {_marks(notes)}", style="dim") if notes else text


def _cell(header: Header, entry: Entry | None, notes: Sequence[int]) -> Text:
    if entry is None:
        return Text("—", style="dim")
    text = Text(header.number(entry.value), style="bold" if entry.is_best else "underline" if entry.is_second else "")
    return text.append(_marks(notes), style="dim not underline")


def _interval(header: Header, entry: Entry | None) -> Text:
    if entry is None or entry.low is None or entry.high is None:
        return Text("")
    return Text(header.interval(entry.low, entry.high), style="dim")


def _count(entry: Entry | None) -> Text:
    return Text("" if entry is None or entry.n is None else f"n={entry.n}", style="dim")


def _marks(notes: Sequence[int]) -> str:
    """Superscripts: ¹ for note 1, ¹ ² for two notes."""
    return " ".join(str(number).translate(SUPERSCRIPTS) for number in notes)
