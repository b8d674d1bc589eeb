"""A wide table in several parts, one below the other; columns without any number may be said in one line instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.records.marks import names_of
from harness.records.table import Header, Table


def groups_of(headers: Sequence[Header], indices: Sequence[int]) -> dict[str, list[int]]:
    """The positions of columns by the headings above them."""
    groups: dict[str, list[int]] = {}
    for index in indices:
        groups.setdefault(headers[index].group, []).append(index)
    return groups


def shown_parts(table: Table, widths: Sequence[float], room: float) -> tuple[list[list[int]], list[str]]:
    """Share the columns of a table among parts.

    Args:
        table: the leaderboard.
        widths: of each column, in any unit.
        room: of a part, in that unit, beside the names of rows.

    Returns:
        The positions of the columns of each part that has a number, and a sentence about the columns of all others.
    """
    parts = list(parts_of(table.headers, widths, room))
    shown = [part for part in parts if any(row.entries[i] is not None for row in table.rows for i in part)]
    absent = [table.headers[i] for part in parts if part not in shown for i in part]
    return shown, [f"Nothing was run in other columns: {names_of(absent)}"] if absent else []


def parts_of(headers: Sequence[Header], widths: Sequence[float], room: float) -> Iterator[list[int]]:
    """Share columns among parts; a group is only cut when it alone does not fit.

    Args:
        headers: all columns.
        widths: of each, in any unit.
        room: of a part, in that unit, beside the names of rows.

    Yields:
        The positions of the columns of a part; at least one.
    """
    part: list[int] = []
    used = 0.0
    for indices in groups_of(headers, range(len(headers))).values():
        if part and used + sum(widths[i] for i in indices) > room:
            yield part
            part, used = [], 0.0
        for index in indices:
            if part and used + widths[index] > room:
                yield part
                part, used = [], 0.0
            part = [*part, index]
            used += widths[index]
    if part:
        yield part
