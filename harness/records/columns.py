"""The columns of a suite's table, each with its task resolved once, and the names by which a person can mean one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from basis.names import way_out
from harness.errors import UserError
from harness.records.patterns import matches
from harness.records.record import Cell
from harness.records.table import Header
from tasks import data as staged
from tasks.families import unit_of
from tasks.generators import own_data_hashes
from tasks.metrics import Unit
from tasks.registry import Average, Column, ResolvedTask, Suite, resolve_column
from tasks.suite import short_length

DECIMALS: dict[Unit, int] = {"share": 1, "bits": 3, "perplexity": 2, "number": 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class AddedColumn(Column):
    """A column of a task that only lm-eval knows; `cell` is the one of its results that says what the task is."""

    cell: Cell = field(compare=False)


@dataclass(frozen=True)
class TableColumn:
    """One column of a suite.

    Attributes:
        column: as the suite says it.
        task: what it asks, by the suite's protocol; None for a task that only lm-eval knows.
        header: as the table shows it.
    """

    column: Column
    task: ResolvedTask | None
    header: Header

    @property
    def samples(self) -> int | None:
        """How many documents it asks for; None for all."""
        return self.column.samples if self.task is None else self.task.samples

    @property
    def cell(self) -> tuple[str, int | None]:
        """The name and the length of its task."""
        return self.column.task, self.column.length

    @cached_property
    def known_data(self) -> dict[str, str]:
        """SHA-256 of the files that it reads, of those that are staged here."""
        if self.task is None:
            return {}
        return {**_staged_hashes(self.task.data), **own_data_hashes(self.task.config)}


def table_columns(suite: Suite) -> list[TableColumn]:
    """The columns of a suite that are no averages, in order."""
    return [resolved_column(suite, column) for column in suite.columns]


def resolved_column(suite: Suite, column: Column) -> TableColumn:
    """One column with its task and its header."""
    if isinstance(column, AddedColumn):
        score = column.cell.scores[column.metric]
        return TableColumn(column, None, _header(suite, column, score.unit, score.higher_is_better))
    task = resolve_column(column, suite.protocol)
    entry = next(entry for entry in task.config["metric_list"] if entry["metric"] == column.metric)
    header = _header(suite, column, unit_of(column.metric), bool(entry["higher_is_better"]))
    return TableColumn(column, task, header)


def _header(suite: Suite, column: Column, unit: Unit, higher_is_better: bool) -> Header:
    cell = column.task + (f"@{column.length}" if column.length is not None else "")
    short = () if column.length is None else (f"{column.task}@{short_length(column.length)}",)
    rivals = [other for other in suite.columns if (other.task, other.length) == (column.task, column.length)]
    return Header(
        group=column.group,
        label=column.label,
        decimals=DECIMALS[unit],
        higher_is_better=higher_is_better,
        key=column.name or (cell if len(rivals) == 1 else f"{cell}:{column.metric}"),
        also=(cell, f"{cell}:{column.metric}", *short, column.task, column.group, column.label),
        unit=unit,
        task=column.task,
        length=column.length,
        metric=column.metric,
    )


def _staged_hashes(names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of files as they were staged."""
    manifest = staged.read_manifest()
    found = {name: manifest[name].get("sha256") for name in names if isinstance(manifest.get(name), dict)}
    return {name: sha for name, sha in found.items() if isinstance(sha, str)}


def average_headers(suite: Suite, columns: Sequence[TableColumn]) -> list[Header]:
    """The headers of a suite's averages.

    Raises:
        UserError: an average over columns that differ in unit or in which way is better.
    """
    return [_average(suite, average, columns, position) for position, average in enumerate(suite.averages)]


def _average(suite: Suite, average: Average, columns: Sequence[TableColumn], position: int) -> Header:
    parts = [column.header for column in columns if column.column.name in average.of]
    if len({(part.unit, part.higher_is_better) for part in parts}) != 1:
        raise UserError(
            f"{suite.file}: averages[{position}]: {', '.join(average.of)} are of different units or directions; "
            "average columns of one kind"
        )
    return Header(
        group=average.group,
        label=average.label,
        decimals=parts[0].decimals,
        higher_is_better=parts[0].higher_is_better,
        key=average.name or f"average:{position + 1}",
        also=("average", average.group, average.label),
        unit=parts[0].unit,
        average_of=average.of,
    )


def columns_named(headers: Sequence[Header], patterns: Sequence[str], flag: str) -> list[int]:
    """The positions of the columns that patterns mean, in the order of the table.

    Args:
        headers: all columns.
        patterns: names of columns, of groups, of tasks or of lengths, with `*`, `?` and `[…]`.
        flag: what messages begin with.

    Raises:
        UserError: a pattern that means none; the message has the names that there are.
    """
    found: set[int] = set()
    for pattern in patterns:
        here = {i for i, header in enumerate(headers) if matches(pattern, (header.key, header.name, *header.also))}
        if not here:
            raise UserError(f"{flag} {pattern!r}: no column is called so; {_way_out(headers, pattern)}")
        found |= here
    return sorted(found)


def column_to_sort_by(headers: Sequence[Header], name: str) -> int:
    """The position of the one column that a name means.

    Raises:
        UserError: no column or several are called so.
    """
    own = [i for i, header in enumerate(headers) if name.lower() in (header.key.lower(), header.name.lower())]
    found = own or [i for i, header in enumerate(headers) if name.lower() in map(str.lower, header.also)]
    if not found:
        raise UserError(f"--sort {name!r}: no column is called so; {_way_out(headers, name, 'name')}")
    if len(found) > 1:
        several = ", ".join(headers[i].key for i in found)
        raise UserError(f"--sort {name!r}: several columns are called so; say one of {several}")
    return found[0]


def _way_out(headers: Sequence[Header], typed: str, *first: str) -> str:
    """The columns, or the name that looks like what was typed, of all that mean a column."""
    also = [name for header in headers for name in (header.name, *header.also)]
    return way_out(typed, [*first, *(header.key for header in headers)], also=also)
