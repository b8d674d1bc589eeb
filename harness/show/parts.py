"""A wide table in several parts, one below the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.records.table import Header


def groups_of(headers: Sequence[Header], indices: Sequence[int]) -> dict[str, list[int]]:
    """The positions of columns by the headings above them."""
    groups: dict[str, list[int]] = {}
    for index in indices:
        groups.setdefault(headers[index].group, []).append(index)
    return groups


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
