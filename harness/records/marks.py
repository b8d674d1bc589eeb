"""Which numbers of a table are the best and the second of their column, in each section, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from harness.records.table import Entry, Header, Row, Table

LEAST_FOR_SECOND = 3  # numbers of a column: of two, the one that is not the best needs no mark


def mark(table: Table) -> None:
    """Mark the best and the second of each column in each section, and say where intervals overlap with the best's.

    A mark needs a rival, so a number that stands alone has none. Numbers that read the same share a mark.
    Means of seeds and the seeds below them have none.

    Args:
        table: is changed: its rows and what it says of overlaps.
    """
    table.overlaps = []
    for section in dict.fromkeys(row.section for row in table.rows):
        positions = [i for i, row in enumerate(table.rows) if row.section == section and not row.of_mean]
        marked = [
            _marked(header, [table.rows[i].entries[index] for i in positions])
            for index, header in enumerate(table.headers)
        ]
        for place, i in enumerate(positions):
            table.rows[i] = replace(table.rows[i], entries=tuple(column[place] for column in marked))
        rows = [table.rows[i] for i in positions]
        if sentence := _overlaps(section, rows, table.headers):
            table.overlaps.append(sentence)


def _marked(header: Header, entries: Sequence[Entry | None]) -> list[Entry | None]:
    """The numbers of one column and section with their marks."""
    least = header.tested[0] if header.tested else -math.inf  # no length is no best one
    values = {header.number(e.value): e.value for e in entries if e is not None and e.value >= least}
    count = sum(entry is not None for entry in entries)
    if count < 2 or not values:
        return list(entries)
    ranked = sorted(values, key=lambda text: values[text], reverse=header.higher_is_better)
    best, second = ranked[0], ranked[1] if len(ranked) > 1 and count >= LEAST_FOR_SECOND else None
    ends = [(entry.low, entry.high) for entry in entries if entry is not None and header.number(entry.value) == best]
    found: list[Entry | None] = []
    for entry in entries:
        if entry is None:
            found.append(None)
            continue
        text = header.number(entry.value)
        overlaps = text != best and any(_overlap(entry, low, high) for low, high in ends)
        found.append(replace(entry, is_best=text == best, is_second=text == second, overlaps_best=overlaps))
    return found


def _overlap(entry: Entry, low: float | None, high: float | None) -> bool:
    """Whether an entry's interval and another have a point in common; not where one of them is unknown."""
    if entry.low is None or entry.high is None or low is None or high is None:
        return False
    return entry.low <= high and low <= entry.high


def _overlaps(section: str, rows: Sequence[Row], headers: Sequence[Header]) -> str | None:
    """In which columns the best is not apart; None for a section where no two numbers have intervals."""
    compared, shared = 0, []
    for index, header in enumerate(headers):
        entries = [entry for row in rows if (entry := row.entries[index]) is not None and entry.low is not None]
        if len(entries) < 2 or not any(entry.is_best for entry in entries):
            continue
        compared += 1
        if any(entry.overlaps_best for entry in entries) or sum(entry.is_best for entry in entries) > 1:
            shared.append(header)
    if not compared:
        return None
    if not shared:
        of = "the one column" if compared == 1 else f"all {compared} columns"
        return f"{section}: the interval of the best is apart from all others in {of}"
    of = "the one column" if compared == 1 else f"{len(shared)} of {compared} columns ({names_of(shared)})"
    return f"{section}: the interval of the best overlaps with another's in {of}"


def names_of(headers: Sequence[Header]) -> str:
    """The names of columns, those of one group together: `S-NIAH-1 1K, 2K; S-NIAH-2 8K`."""
    groups: dict[str, list[str]] = {}
    for header in headers:
        groups.setdefault(header.group, []).append(header.label)
    return "; ".join(f"{group} {', '.join(labels)}" for group, labels in groups.items())
