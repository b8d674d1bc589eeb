"""The leaderboard of a page: its cells as texts, with the numbers that they are sorted by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from harness.records.added import UNKNOWN
from harness.records.model_info import ModelInfo
from harness.records.stats import wilson_interval
from harness.records.table import Entry, Header, Row, Section, Table
from harness.words import short
from tasks.registry import Suite, resolve_column


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
    """A column with what its name is when it stands alone."""

    label: str
    full: str
    higher_is_better: bool
    starts_group: bool


@dataclass(frozen=True)
class BoardSection:
    """Rows below one heading."""

    title: str
    notes: tuple[int, ...]
    is_published: bool
    rows: tuple[BoardRow, ...]


@dataclass(frozen=True)
class Board:
    """The leaderboard; `groups` are the headings above columns with the number of columns below each."""

    groups: tuple[tuple[str, int], ...]
    columns: tuple[BoardColumn, ...]
    sections: tuple[BoardSection, ...]
    is_published: bool


def make_board(suite: Suite, table: Table, models: Mapping[str, tuple[str, ModelInfo]]) -> Board:
    """Make it of a table.

    Args:
        suite: of the table; the number of documents that it asks for is what published intervals assume.
        table: ours and the papers'.
        models: by the id of a run: its title, and what is known of it.
    """
    groups = [(name, len(list(found))) for name, found in groupby(header.group for header in table.headers)]
    starts = {sum(size for _, size in groups[:place]) for place in range(len(groups))}
    columns = tuple(
        BoardColumn(header.label, header.name.strip(), header.higher_is_better, place in starts)
        for place, header in enumerate(table.headers)
    )
    asked = [resolve_column(column, suite.protocol).samples for column in suite.columns]
    assumed = [*asked, *[None] * (len(table.headers) - len(asked))]
    sections = tuple(
        BoardSection(
            section.title,
            section.notes,
            all(row.source is not None for row in section.rows),
            tuple(_row(table, section, row, models, assumed) for row in section.rows),
        )
        for section in table.sections()
    )
    return Board(tuple(groups), columns, sections, any(section.is_published for section in sections))


def model_of(row: Row, models: Mapping[str, tuple[str, ModelInfo]]) -> tuple[str, ModelInfo] | None:
    """Whose numbers a row has; None for a published one."""
    ids = (entry.run_id for entry in row.entries if entry is not None and entry.run_id is not None)
    return next((models[run_id] for run_id in ids if run_id in models), None)


def _row(
    table: Table, section: Section, row: Row, models: Mapping[str, tuple[str, ModelInfo]], assumed: list[int | None]
) -> BoardRow:
    cells = tuple(
        None if entry is None else _cell(row, header, entry, samples)
        for header, entry, samples in zip(table.headers, row.entries, assumed, strict=True)
    )
    model = model_of(row, models)
    return BoardRow(row.name, "" if model is None else facts_of(model[1]), section.notes_at(row), cells)


def facts_of(model: ModelInfo) -> str:
    """Mixers, parameters and state of a model in a line."""
    state = f"{_bytes(model.state_bytes)} state" if model.state_bytes else "no state"
    if model.state_bytes is None:
        state = "unknown state"
    if model.state_bytes_a_token:
        state = f"{_bytes(model.state_bytes_a_token)} a token"
    parameters = UNKNOWN if model.parameters is None else short(model.parameters)
    return f"{model.architecture} · {parameters} parameters · {state}"


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
    tip = f"{row.name}, {header.name.strip()}: {value}"
    tip += f" (95 %: {interval})" if interval else ""
    tip += f", {said}" if said else ""
    return BoardCell(value, interval, entry.value, tip, row.notes_at(entry), entry.mark)
