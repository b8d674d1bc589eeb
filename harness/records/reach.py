"""The effective length as a column: up to which length the mean of a suite's tasks is above the threshold it names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.errors import UserError
from harness.records.columns import TableColumn
from harness.records.effective import CurvePoint, effective_length
from harness.records.table import Entry, Header
from harness.words import short_length
from tasks.registry import Suite

LEAST_LENGTHS = 2


@dataclass(frozen=True)
class ReachColumn:
    """The column, and what it is made of.

    Attributes:
        header: as the table shows it.
        positions: of each task, the positions of its columns at the lengths of the header, ascending.
        threshold: that the mean must exceed, from 0 to 1.
    """

    header: Header
    positions: tuple[tuple[int, ...], ...]
    threshold: float

    @property
    def meaning(self) -> str:
        """What it says, for below the table."""
        tested = ", ".join(map(short_length, self.header.tested))
        return (
            f"{self.header.name}: the longest of {tested} up to which the mean of the {len(self.positions)} tasks is "
            f"above {100 * self.threshold:.4g} % at every length (docs/failures.md)"
        )

    def entry(self, entries: Sequence[Entry | None], note: Callable[[str], int]) -> Entry | None:
        """The effective length of a row by its numbers, 0 below the shortest.

        Args:
            entries: the row's.
            note: gives the number of a note.

        Returns:
            None for a row that lacks a number at one of the two shortest lengths. One that lacks longer ones is held
            against the lengths before; a note says so where it passes at all of them.
        """
        rows = [[entries[position] for position in own] for own in self.positions]
        whole = [all(entry is not None for entry in column) for column in zip(*rows, strict=True)]
        count = whole.index(False) if False in whole else len(whole)
        if count < LEAST_LENGTHS:
            return None
        kept = [[entry for entry in own[:count] if entry is not None] for own in rows]
        found = effective_length([self._curve(own) for own in kept], self.threshold)
        notes = {number for own in kept for entry in own for number in entry.notes}
        if count < len(whole) and found.is_open:
            notes.add(note(f"effective length: not run beyond {short_length(found.tested[-1])}"))
        ours = all(entry.n is not None for own in kept for entry in own)
        low, high = (float(found.low or 0), float(found.high or 0)) if ours else (None, None)
        return Entry(float(found.length or 0), low, high, notes=tuple(sorted(notes)))

    def _curve(self, entries: Sequence[Entry]) -> list[CurvePoint]:
        """The points of a task, of entries in percent."""
        points = []
        for length, entry in zip(self.header.tested, entries, strict=False):
            low, high = (None if end is None else end / 100 for end in (entry.low, entry.high))
            points.append(CurvePoint(length, entry.value / 100, low, high, entry.n))
        return points


def reach_column(suite: Suite, columns: Sequence[TableColumn]) -> ReachColumn | None:
    """Make the column of a table.

    Args:
        suite: says the threshold.
        columns: of the suite, without its averages.

    Returns:
        None for a suite that does not ask for it.

    Raises:
        UserError: there are no two lengths at which all tasks have shares of right answers.
    """
    if suite.effective_length is None:
        return None
    tasks: dict[tuple[str, str], dict[int, int]] = {}
    for position, column in enumerate(columns):
        if column.header.unit == "share" and column.column.length is not None:
            tasks.setdefault((column.column.task, column.column.metric), {})[column.column.length] = position
    common = sorted(set.intersection(*map(set, tasks.values()))) if tasks else []
    if len(common) < LEAST_LENGTHS:
        raise UserError(
            f"{suite.file}: effective_length: needs two lengths at which every task with a length has a column of a "
            "share; add columns, or leave the field out"
        )
    header = Header(
        group="Length",
        label=f">{suite.effective_length:g}",
        decimals=0,
        higher_is_better=True,
        key="effective_length",
        also=("effective length",),
        unit="number",
        tested=tuple(common),
    )
    positions = tuple(tuple(own[length] for length in common) for own in tasks.values())
    return ReachColumn(header, positions, suite.effective_length / 100)
