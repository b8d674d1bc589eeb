"""The leaderboard of a page: its cells as texts, with the numbers that they are sorted by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.records.columns import table_columns
from harness.records.model_info import ModelInfo
from harness.records.stats import wilson_interval
from harness.records.table import Entry, Header, Row, Section, Table
from harness.show.parts import groups_of
from harness.words import short
from tasks.registry import Suite

MANY = 200
"""Rows beyond which a table is long."""


@dataclass(frozen=True)
class BoardCell:
    """One cell; `tip` says all that is known of it, `key` is what it is sorted by."""

    text: str
    interval: str
    key: float
    tip: str
    notes: tuple[int, ...]
    mark: str | None


@dataclass(frozen=True)
class BoardRow:
    """One model; `facts` is a line about it."""

    name: str
    facts: str
    notes: tuple[int, ...]
    cells: tuple[BoardCell | None, ...]


@dataclass(frozen=True)
class BoardColumn:
    """A column.

    Attributes:
        place: in the table.
        label: below its group.
        full: what its name is when it stands alone.
        higher_is_better: which way is better.
        starts_group: whether it is the first of its group.
        samples: that the suite asks for; None for an average.
    """

    place: int
    label: str
    full: str
    higher_is_better: bool
    starts_group: bool
    samples: int | None


@dataclass(frozen=True)
class BoardSection:
    """Rows below one heading."""

    title: str
    notes: tuple[int, ...]
    is_published: bool
    rows: tuple[BoardRow, ...]


@dataclass(frozen=True)
class Board:
    """The leaderboard.

    Attributes:
        groups: the headings above columns, with the number of columns below each.
        columns: those of one group side by side.
        sections: the rows.
        is_published: whether some are a paper's.
        is_long: whether it has so many rows that columns of fixed width spare the browser a second.
    """

    groups: tuple[tuple[str, int], ...]
    columns: tuple[BoardColumn, ...]
    sections: tuple[BoardSection, ...]
    is_published: bool
    is_long: bool


def make_board(suite: Suite, table: Table, models: Mapping[str, tuple[str, ModelInfo]]) -> Board:
    """Make it of a table.

    Args:
        suite: of the table; the number of documents that it asks for is what published intervals assume.
        table: ours and the papers'.
        models: by the id of a run: its title, and what is known of it.
    """
    groups = groups_of(table.headers, range(len(table.headers)))
    asked = [column.samples for column in table_columns(suite)]
    assumed = [*asked, *[None] * (len(table.headers) - len(asked))]
    columns = []
    for places in groups.values():
        for place in places:
            head = table.headers[place]
            is_first = place == places[0]
            columns.append(
                BoardColumn(place, head.label, head.name.strip(), head.higher_is_better, is_first, assumed[place])
            )
    sections = tuple(
        BoardSection(
            section.title,
            section.notes,
            all(row.source is not None for row in section.rows),
            tuple(_row(table, section, row, models, columns) for row in section.rows),
        )
        for section in table.sections()
    )
    sizes = tuple((name, len(places)) for name, places in groups.items())
    is_published = any(section.is_published for section in sections)
    return Board(sizes, tuple(columns), sections, is_published, is_long=len(table.rows) > MANY)


def model_of(row: Row, models: Mapping[str, tuple[str, ModelInfo]]) -> tuple[str, ModelInfo] | None:
    """Whose numbers a row has; None for a published one."""
    ids = (entry.run_id for entry in row.entries if entry is not None and entry.run_id is not None)
    return next((models[run_id] for run_id in ids if run_id in models), None)


def _row(
    table: Table,
    section: Section,
    row: Row,
    models: Mapping[str, tuple[str, ModelInfo]],
    columns: Sequence[BoardColumn],
) -> BoardRow:
    cells = tuple(
        None if entry is None else _cell(row, table.headers[column.place], entry, column.samples)
        for column in columns
        for entry in (row.entries[column.place],)
    )
    model = model_of(row, models)
    return BoardRow(row.name, "" if model is None else facts_of(model[1]), section.notes_at(row), cells)


def facts_of(model: ModelInfo) -> str:
    """Mixers, parameters and state of a model in a line."""
    said = [model.architecture]
    if model.parameters is not None:
        said.append(f"{short(model.parameters)} parameters")
    if model.state_bytes_a_token:
        said.append(f"{_bytes(model.state_bytes_a_token)} a token")
    elif model.state_bytes is not None:
        said.append(f"{_bytes(model.state_bytes)} state")
    return " · ".join(said)


def _bytes(number: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number} B"


def _cell(row: Row, header: Header, entry: Entry, assumed: int | None) -> BoardCell:
    value = header.number(entry.value)
    low, high, said = entry.low, entry.high, ""
    if entry.n is not None:
        said = f"n = {entry.n:,}"
    elif row.source is not None and header.unit == "share" and 0 <= entry.value <= 100 and assumed:
        ends = wilson_interval(round(entry.value / 100 * assumed), assumed)
        low, high, said = 100 * ends[0], 100 * ends[1], f"as printed; interval as if n = {assumed:,}"
    elif row.source is not None:
        said = "as printed"
    interval = "" if low is None or high is None else header.interval(low, high)
    tip = f"{row.full_name}, {header.name.strip()}: {value}"
    tip += f" (95 %: {interval})" if interval else ""
    tip += f", {said}" if said else ""
    return BoardCell(value, interval, entry.value, tip, row.notes_at(entry), entry.mark)
