"""A leaderboard as GitHub Markdown: narrow enough to be read there without scrolling.

The columns of one group (a task at several lengths) share a cell, so that a number takes no border and no padding of
its own; figure spaces, as wide as a digit, keep such numbers below each other. Intervals are a second table, but for
those of means over seeds, which are a second line of their cells.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.records.table import Entry, Header, Row, Table
from harness.show.intervals import Intervals, interval_parts
from harness.show.parts import groups_of, shown_parts
from harness.show.plain import markdown

ROOM = 830.0  # pixels of a page on GitHub, beside its side bar
PADDING = 26.0  # of a cell
LONGEST = 250.0  # of a name; a longer one makes a line of its table scroll, not all parts narrow
DIGIT, NARROW, LETTER = 9.0, 4.8, 9.0  # pixels of a digit, of a point or space, of any other letter
FIGURE, POINT, APART = "\u2007", "\u2008", "\u00a0\u00a0"
"""Spaces as wide as a digit and as a point, and what stands between two numbers."""
LAST = "&nbsp;"
"""A space as wide as a point that stays at the end of a line."""
INTERVAL = 150.0  # pixels of a number with its interval


def to_markdown(table: Table, intervals: bool = False) -> str:
    """One table, in parts where it is too wide, with its notes below.

    Args:
        table: the leaderboard.
        intervals: whether a table of intervals follows; else those of means over seeds stand below them.
    """
    if not table.headers or not table.rows:
        return "No results yet.\n"
    names = [row.name for row in table.rows] + [section.title for section in table.sections()]
    room = ROOM - PADDING - min(max(map(_pixels, names)), LONGEST)
    columns = [_column(table, index, not intervals) for index in range(len(table.headers))]
    shown, absent = shown_parts(table, _widths(table, columns), room)
    parts = [_part(table, columns, indices) for indices in shown]
    legend = "; ".join(table.legend(not intervals))
    lines = [f"{legend[0].upper()}{legend[1:]}."] if legend else []
    lines += [f"[{number}] {markdown(note)}" for number, note in enumerate(table.notes, start=1)]
    lines += [markdown(sentence) for sentence in (*absent, *table.remarks())]
    blocks = [*parts, *(["  \n".join(lines)] if lines else [])]
    beside = ROOM - PADDING - max(_pixels(f"{header.name} ↓") for header in table.headers)
    if intervals and (found := interval_parts(table, lambda name: max(_pixels(name), INTERVAL) + PADDING, beside)):
        blocks += [f"{found[0].caption()}:", *map(_intervals, found)]
    return "\n\n".join(blocks) + "\n"


@dataclass(frozen=True)
class _Column:
    """A column with the most digits and points that a number of it has.

    Attributes:
        index: its place in the table.
        header: what it is.
        digits: for which it has room.
        points: likewise.
        reaches: whether the intervals of means over seeds stand below these.
    """

    index: int
    header: Header
    digits: int
    points: int
    reaches: bool

    def reach(self, row: Row) -> str:
        """What stands below the number of a row; empty if nothing does."""
        entry = row.entries[self.index]
        return "" if not self.reaches or entry is None or entry.reach is None else self.header.reach(entry.reach)


def _column(table: Table, index: int, reaches: bool) -> _Column:
    header = table.headers[index]
    texts = {_text(header, row.entries[index], is_alone=False) for row in table.rows}
    column = _Column(index, header, max(map(_count, texts)), max(text.count(".") for text in texts), reaches)
    lacking = max(_halves(column.reach(row)) for row in table.rows) - 2 * column.digits - column.points
    more, half = divmod(max(lacking, 0), 2)
    return replace(column, digits=column.digits + more, points=column.points + half)


def _part(table: Table, columns: Sequence[_Column], indices: Sequence[int]) -> str:
    """The lines of one part of the table."""
    groups = {group: [columns[i] for i in below] for group, below in groups_of(table.headers, indices).items()}
    titles = [_title(group, below) for group, below in groups.items()]
    lines = [f"| model | {' | '.join(titles)} |", "| --- |" + " ---: |" * len(titles)]
    for section in table.sections():
        shown = [row for row in section.rows if any(row.entries[i] is not None for i in indices)]
        if not shown:
            continue
        lines.append(f"| *{markdown(section.title)}*{_numbers(section.notes)} |" + " |" * len(titles))
        for row in shown:
            is_tall = any(columns[i].reach(row) for i in indices)
            cells = [_cell(row, below, is_tall) for below in groups.values()]
            name = f"{markdown(row.name)}{_numbers(section.notes_at(row))}"
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _title(group: str, below: Sequence[_Column]) -> str:
    """The heading of a group, with the labels of its columns where its numbers stand."""
    labels = []
    for column in below:
        label = _label(column.header)
        labels.append(FIGURE * (column.digits - len(label) if len(below) > 1 else 0) + markdown(label))
    return f"{markdown(group)}<br>{APART.join(labels)}"


def _label(header: Header) -> str:
    return header.label + ("" if header.higher_is_better else " ↓")


def _cell(row: Row, columns: Sequence[_Column], is_tall: bool) -> str:
    """The numbers of a group; in a tall row a line below them, with intervals of means each below its number."""
    is_alone = len(columns) == 1
    numbers = APART.join(_number(row, column, is_alone) for column in columns)
    if not is_tall:
        return numbers
    if not any(column.reach(row) for column in columns):
        return f"{numbers}<br>{LAST}"
    reaches = APART.join(_reach(row, column, is_alone) for column in columns)
    if reaches[-1] in FIGURE + POINT:  # a browser leaves these out at the end of a line
        reaches = reaches[:-1] + (POINT if reaches[-1] == FIGURE else "") + LAST
    return f"{numbers}<br>{reaches}"


def _reach(row: Row, column: _Column, is_alone: bool) -> str:
    """Half of an interval, or spaces, as wide as the number above it with its notes."""
    text, entry = column.reach(row), row.entries[column.index]
    missing = 0 if is_alone else 2 * column.digits + column.points - _halves(text)
    notes = "" if entry is None else _numbers(row.notes_at(entry))
    behind = "".join(FIGURE if letter.isdigit() else POINT for letter in notes)
    return FIGURE * (missing // 2) + POINT * (missing % 2) + text + behind


def _number(row: Row, column: _Column, is_alone: bool) -> str:
    """One number with its marks, as wide as the others of its column where it shares its cell."""
    entry = row.entries[column.index]
    text = _text(column.header, entry, is_alone)
    missing = (0, 0) if is_alone else (column.digits - _count(text), column.points - text.count("."))
    before = FIGURE * missing[0] + POINT * missing[1]
    if entry is None:
        return before + text
    return before + _marked(entry, text) + _numbers(row.notes_at(entry))


def _text(header: Header, entry: Entry | None, is_alone: bool) -> str:
    """A number as text; 100.0 % among others is 100, which no other number reads as."""
    if entry is None:
        return "—"
    text = header.number(entry.value)
    return "100" if text == "100.0" and header.unit == "share" and not is_alone else text


def _marked(entry: Entry, text: str) -> str:
    return f"**{text}**" if entry.is_best else f"<ins>{text}</ins>" if entry.is_second else text


def _numbers(notes: Sequence[int]) -> str:
    return " " + "".join(f"[{number}]" for number in notes) if notes else ""


def _count(text: str) -> int:
    """The digits of a number; a dash is as wide as two."""
    return 2 if text == "—" else sum(letter.isdigit() for letter in text)


def _halves(text: str) -> int:
    """The width of half of an interval, in halves of a digit: a point is as wide as one."""
    return sum(1 if letter == "." else 2 for letter in text)


def _widths(table: Table, columns: Sequence[_Column]) -> list[float]:
    """The pixels of each column, the first of a group with the padding and its share of the heading."""
    widths = []
    groups = groups_of(table.headers, range(len(table.headers)))
    for column in columns:
        header, below = column.header, groups[column.header.group]
        entries = [(row, entry) for row in table.rows if (entry := row.entries[column.index]) is not None]
        notes = max((len(_numbers(row.notes_at(entry))) for row, entry in entries), default=0)
        number = column.digits * DIGIT + column.points * NARROW + notes * LETTER
        widths.append(
            max(number, _pixels(_label(header)), _pixels(header.group) / len(below))
            + (PADDING if column.index == below[0] else _pixels(APART))
        )
    return widths


def _pixels(text: str) -> float:
    """About the width of a text in the letters of a browser."""
    return sum(NARROW if re.match(r"[\s.,:;|il'()\[\]]", letter) else LETTER for letter in text)


def _intervals(part: Intervals) -> str:
    """The lines of a part of the table of intervals."""
    names = " | ".join(markdown(row.full_name) for row in part.rows)
    lines = [f"| | {names} |", "| --- |" + " ---: |" * len(part.rows)]
    for header, entries in part.lines():
        cells = [
            "—"
            if entry is None
            else f"{_marked(entry, header.number(entry.value))} {part.behind(header, entry)}".rstrip()
            for entry in entries
        ]
        lines.append(f"| {markdown(header.group)} {markdown(_label(header))} | {' | '.join(cells)} |")
    return "\n".join(lines)
