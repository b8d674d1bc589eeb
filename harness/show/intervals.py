"""The intervals of a table's numbers as a second table: a line a column, a column a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from harness.records.table import Entry, Header, Row, Table


@dataclass(frozen=True)
class Intervals:
    """A part of such a table.

    Attributes:
        rows: the models of this part.
        headers: the columns in which any of all models has an interval.
        indices: their positions in the entries of a row.
        same_n: the number of documents, where it is the same for all numbers of all parts.
    """

    rows: tuple[Row, ...]
    headers: tuple[Header, ...]
    indices: tuple[int, ...]
    same_n: int | None

    def lines(self) -> Iterator[tuple[Header, tuple[Entry | None, ...]]]:
        """Each column with the numbers of the models."""
        for header, index in zip(self.headers, self.indices, strict=True):
            yield header, tuple(row.entries[index] for row in self.rows)

    def behind(self, header: Header, entry: Entry) -> str:
        """What stands behind a number: its interval, and how many documents unless that is said once."""
        said = []
        if entry.low is not None and entry.high is not None:
            said.append(header.ends(entry.low, entry.high))
        if self.same_n is None and entry.n is not None:
            said.append(f"n={entry.n:,}")
        return f"({', '.join(said)})" if said else ""

    def caption(self) -> str:
        """What the numbers are, in one sentence."""
        return "95 % intervals" + (f", {self.same_n:,} documents in every cell" if self.same_n is not None else "")


def interval_parts(table: Table, width: Callable[[str], float], room: float) -> list[Intervals]:
    """The intervals of a table in parts; none where no number has an interval.

    Args:
        table: the leaderboard.
        width: of the column of a model with this name, in any unit.
        room: for the models of a part, in that unit; a part has at least one.
    """
    indices = tuple(
        index
        for index in range(len(table.headers))
        if any((entry := row.entries[index]) is not None and entry.low is not None for row in table.rows)
    )
    rows = [row for row in table.rows if any(_is_known(row.entries[i]) for i in indices)]
    counts = {entry.n for row in rows for i in indices if (entry := row.entries[i]) is not None and entry.n}
    same = counts.pop() if len(counts) == 1 else None
    headers = tuple(table.headers[i] for i in indices)
    return [Intervals(part, headers, indices, same) for part in _shared(rows, width, room)]


def _is_known(entry: Entry | None) -> bool:
    """Whether something can be said of how sure a number is: a mean of seeds has an interval and no documents."""
    return entry is not None and bool(entry.n or entry.low is not None)


def _shared(rows: Sequence[Row], width: Callable[[str], float], room: float) -> Iterator[tuple[Row, ...]]:
    """The models of each part."""
    part: list[Row] = []
    used = 0.0
    for row in rows:
        needed = width(row.full_name)
        if part and used + needed > room:
            yield tuple(part)
            part, used = [], 0.0
        part.append(row)
        used += needed
    if part:
        yield tuple(part)
