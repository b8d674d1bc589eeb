"""What of a table is shown, and in which order: models, columns, groups, sorting."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from basis.names import way_out
from harness.errors import UserError
from harness.records.columns import column_to_sort_by, columns_named
from harness.records.patterns import matches
from harness.records.row_names import RowNames
from harness.records.seed_rows import below_their_means, is_mean_or_other, said_of_means, with_means
from harness.records.steps import in_sections
from harness.records.table import Header, Row, Table

Seeds = Literal["all", "means"]
NAME = "name"
"""What rows are sorted by that are sorted by their names."""


@dataclass(frozen=True)
class View:
    """A choice of what is shown.

    Attributes:
        models: patterns of the names of rows; empty: all.
        columns: patterns of the names of columns; empty: all.
        sort: a column, `average` or `name`; None: as they come.
        names: what rows are called, and how they are grouped.
        seeds: `all`: the seeds of one training stand below a row with their mean; `means`: only the mean is shown;
            None: seeds are models as others are.
    """

    models: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    sort: str | None = None
    names: RowNames | None = None
    seeds: Seeds | None = None

    def wants(self, *names: str) -> bool:
        """Whether a row of these names is shown."""
        return not self.models or any(matches(pattern, names) for pattern in self.models)

    def positions(self, headers: Sequence[Header]) -> list[int]:
        """The positions of the columns that are shown.

        Raises:
            UserError: a pattern that means no column.
        """
        return columns_named(headers, self.columns, "--columns") if self.columns else list(range(len(headers)))

    def shown(self, *names: str, training: str | None = None) -> str:
        """What the model of these names is called, which may be a checkpoint of a training."""
        return self.names.shown(*names, training=training) if self.names is not None else names[0]

    def check(self, in_table: Sequence[str], ours: Sequence[str], published: Sequence[str]) -> None:
        """See that every name that was asked for is one that there is.

        Args:
            in_table: the names of all rows that the table could have.
            ours: of all models that have records, of whatever suite.
            published: of all published models.

        Raises:
            UserError: a name or a pattern that means none.
        """
        for pattern in self.models:
            if not matches(pattern, in_table):
                raise UserError(f"--models {pattern!r}: no row is called so; {way_out(pattern, in_table)}")
        if self.names is not None:
            self.names.check([*ours, *published], ours)


def arrange(table: Table, view: View, section: str) -> None:
    """Group, sort and cut the rows of a table that has all its columns.

    Args:
        table: is changed.
        view: what is shown.
        section: the one whose checkpoints of one training get sections of their own.

    Raises:
        UserError: a column that is not there, or several that are called as one was asked for.
    """
    rows, kept = table.rows, view.positions(table.headers)
    if view.names is not None and view.names.groups:
        rows = _grouped(rows, view.names)
    if view.seeds:
        rows = with_means(rows, table.headers)
    if view.sort is not None:
        rows = _sorted(rows, table.headers, view.sort)
    if view.seeds and rows:
        table.explained += said_of_means(rows, seeds_are_shown=view.seeds == "all")
        rows = below_their_means(rows) if view.seeds == "all" else [row for row in rows if is_mean_or_other(row)]
    rows = in_sections(rows, section)
    table.headers = tuple(table.headers[i] for i in kept)
    cut = [replace(row, entries=tuple(row.entries[i] for i in kept)) for row in rows]
    table.rows = [row for row in cut if any(entry is not None for entry in row.entries)]


def _grouped(rows: Sequence[Row], names: RowNames) -> list[Row]:
    """The rows of the file's groups in its order, then those that no group means, in their own sections.

    Rows of one name that come below one heading have that of their former section behind it.
    """
    placed, rest = [], []
    for row in rows:
        known = [row.name, row.model, f"{row.section}/{row.model}", *([row.training] if row.training else [])]
        if (found := names.place(known)) is None:
            rest.append(row)
        else:
            placed.append(((*found, row.training or "", row.step or 0.0), row))
    placed.sort(key=lambda pair: pair[0])
    counted = Counter((place[0], row.name) for place, row in placed)
    grouped = []
    for place, row in placed:
        name = f"{row.name} ({row.section})" if counted[place[0], row.name] > 1 else row.name
        grouped.append(replace(row, section=names.groups[place[0]].title, name=name))
    return [*grouped, *rest]


def _sorted(rows: Sequence[Row], headers: Sequence[Header], by: str) -> list[Row]:
    """The rows of each section in order, the best first and those without a number last."""
    index = None if by == NAME else column_to_sort_by(headers, by)
    sections = list(dict.fromkeys(row.section for row in rows))

    def key(row: Row) -> tuple[int, bool, float, tuple[tuple[int, int, str], ...]]:
        place = sections.index(row.section)
        if index is None:
            return place, False, 0.0, natural(row.name)
        if (entry := row.entries[index]) is None:
            return place, True, 0.0, ()
        return place, False, -entry.value if headers[index].higher_is_better else entry.value, ()

    return sorted(rows, key=key)


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts numbers within names by their size, and before letters."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text.casefold())
    digits = [part.lstrip("0") if part[0] in "0123456789" else None for part in parts]
    return tuple((1, 0, part) if d is None else (0, len(d), d) for part, d in zip(parts, digits, strict=True))
