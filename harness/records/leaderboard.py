"""Rows of a suite's table: our records and the papers' figures, and what keeps two of them from being compared.

A cell of ours stands in a column if task, length and metric are the column's. Whatever else fixes its meaning and is
not as the suite says (number of samples, seed, context prefix, data, task version) is a numbered note at the cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.records.cells import spec_hash
from harness.records.published import PublishedRow, table_rows
from harness.records.record import Cell, RunRecord, Score
from tasks.families import unit_of
from tasks.metrics import Unit
from tasks.registry import Average, Column, Published, Suite, resolve_column

DECIMALS: dict[Unit, int] = {"share": 1, "bits": 3, "perplexity": 2, "number": 2}


@dataclass(frozen=True)
class Entry:
    """One cell as shown: `value` in the column's unit, interval if there is one, numbers of notes."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    notes: tuple[int, ...] = ()
    is_best: bool = False


@dataclass(frozen=True)
class Row:
    """One model; `entries` in the order of the columns, None where a cell was not run."""

    name: str
    section: str
    entries: tuple[Entry | None, ...]
    section_note: int | None = None


@dataclass(frozen=True)
class Header:
    """A column: `group` stands above `label`; `decimals` and `higher_is_better` say how its numbers read."""

    group: str
    label: str
    decimals: int
    higher_is_better: bool

    def number(self, value: float) -> str:
        """A value of this column as text; perplexities above ten lose decimals that nobody compares."""
        if self.decimals == 2 and abs(value) >= 10:
            return f"{value:.{1 if abs(value) < 100 else 0}f}"
        return f"{value:.{self.decimals}f}"

    def interval(self, low: float, high: float) -> str:
        """An interval as text; percentages without decimals."""
        if self.decimals == 1:
            return f"{low:.0f}–{high:.0f}"
        return f"{self.number(low)}–{self.number(high)}"


@dataclass
class Table:
    """A leaderboard, ready to be drawn."""

    title: str
    description: str
    headers: tuple[Header, ...]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> int:
        """The number of a note, from 1; the same text is written once."""
        if text not in self.notes:
            self.notes.append(text)
        return self.notes.index(text) + 1


def build_table(suite: Suite, records: Sequence[tuple[Path, RunRecord]], published: bool = True) -> Table:
    """The table of a suite.

    Of several runs of one model, each cell is the one that fits the suite best, then the newest.
    """
    averages = tuple(Header(average.group, average.label, 1, True) for average in suite.averages)
    headers = (*(_header(suite, column) for column in suite.columns), *averages)
    table = Table(suite.name, suite.description, headers)
    for name in sorted({record.name for _, record in records}):
        own = [record for _, record in records if record.name == name]
        for model in sorted({record.model["checkpoint_sha256"] for record in own}):
            runs = [record for record in own if record.model["checkpoint_sha256"] == model]
            several = len({record.model["checkpoint_sha256"] for record in own}) > 1
            title = f"{name} ({model[:6]})" if several else name
            entries = tuple(_entry(table, suite, column, runs) for column in suite.columns)
            if any(entry is not None for entry in entries):
                means = tuple(_mean(suite, average, entries) for average in suite.averages)
                table.rows.append(Row(title, "this harness", (*entries, *means)))
    if published and suite.published is not None:
        _add_published(table, suite, suite.published)
    _mark_best(table)
    return table


def _header(suite: Suite, column: Column) -> Header:
    config = resolve_column(column, suite.protocol).config
    entry = next(entry for entry in config["metric_list"] if entry["metric"] == column.metric)
    return Header(column.group, column.label, DECIMALS[unit_of(column.metric)], bool(entry["higher_is_better"]))


def _entry(table: Table, suite: Suite, column: Column, runs: Sequence[RunRecord]) -> Entry | None:
    candidates = []
    for run in runs:
        for cell in run.cells:
            score = cell.scores.get(column.metric)
            if (cell.task, cell.length) == (column.task, column.length) and score is not None and score.n:
                differences = _differences(suite, column, cell, score)
                candidates.append((-len(differences), run.started, score, differences))
    if not candidates:
        return None
    _, _, score, differences = max(candidates, key=lambda item: item[:2])
    scale = 100.0 if unit_of(column.metric) == "share" else 1.0
    return Entry(
        value=score.value * scale,
        low=None if score.low is None else score.low * scale,
        high=None if score.high is None else score.high * scale,
        n=score.n,
        notes=tuple(table.note(text) for text in differences),
    )


def _mean(suite: Suite, average: Average, entries: Sequence[Entry | None]) -> Entry | None:
    """The average of named columns; None for a row that lacks one of them."""
    parts = [entry for column, entry in zip(suite.columns, entries, strict=True) if column.name in average.of and entry]
    if len(parts) != len(average.of):
        return None
    notes = tuple(sorted({note for part in parts for note in part.notes}))
    return Entry(value=sum(part.value for part in parts) / len(parts), notes=notes)


def _differences(suite: Suite, column: Column, cell: Cell, score: Score) -> list[str]:
    """What is not as the suite's table wants it."""
    task = resolve_column(column, suite.protocol)
    found = []
    if cell.samples != task.samples:
        found.append(f"{cell.samples or 'all'} samples instead of {task.samples or 'all'}")
    if score.unscored:
        found.append(f"{score.unscored} of {score.n + score.unscored} documents were not scored")
    if cell.seed != task.seed:
        found.append(f"seed {cell.seed} instead of {task.seed}")
    if task.generator and cell.generator and cell.generator != task.generator:
        found.append(f"generator {cell.generator} instead of {task.generator}")
    if cell.shots != task.shots:
        found.append(f"{cell.shots} solved examples instead of {task.shots}")
    if cell.context_prefix != suite.protocol.context_prefix:
        found.append(f"context prefix {cell.context_prefix} instead of {suite.protocol.context_prefix}")
    if cell.version != float(task.config["metadata"]["version"]):
        found.append(f"task version {cell.version:g} instead of {float(task.config['metadata']['version']):g}")
    window = suite.protocol.max_length
    if window is not None and cell.max_length != window:
        found.append(f"window of {cell.max_length} tokens instead of {window}")
    if cell.spec != spec_hash(task):
        found.append(f"another definition of {cell.task} ({cell.spec}) than in its file now")
    if cell.truncated:
        found.append(f"{cell.truncated} requests lost their beginning (max_length {cell.max_length})")
    return found


def _add_published(table: Table, suite: Suite, published: Published) -> None:
    """Rows of the papers' tables that the suite names.

    Their figures are matched by the names of columns and averages, or by task and length where a paper's table has
    those.
    """
    for reference in published.tables:
        for row in table_rows(reference):
            note = table.note(f"published figures, as printed in {row.source}: {published.note}")
            values = [
                *(_figure(row, suite, column) for column in suite.columns),
                *(None if average.name is None else row.scores.get(average.name) for average in suite.averages),
            ]
            entries = tuple(None if value is None else Entry(value) for value in values)
            table.rows.append(Row(row.name, f"papers, {row.family}", entries, section_note=note))


def _figure(row: PublishedRow, suite: Suite, column: Column) -> float | None:
    if column.name is not None and column.name in row.scores:
        return row.scores[column.name]
    main = resolve_column(column, suite.protocol).info.metric  # figures by task and length are of the task's metric
    return row.scores.get((column.task, column.length or 0)) if column.metric == main else None


def _mark_best(table: Table) -> None:
    """Mark the best of each column, among our rows and within each section of published ones."""
    for section in dict.fromkeys(row.section for row in table.rows):
        positions = [i for i, row in enumerate(table.rows) if row.section == section]
        if len(positions) < 2:
            continue
        for index, header in enumerate(table.headers):
            shown = {i: entry.value for i in positions if (entry := table.rows[i].entries[index]) is not None}
            if not shown:
                continue
            best = max(shown.values()) if header.higher_is_better else min(shown.values())
            for i, value in shown.items():
                if value == best:
                    table.rows[i] = _with_best(table.rows[i], index)


def _with_best(row: Row, index: int) -> Row:
    entries = [
        replace(entry, is_best=True) if i == index and entry is not None else entry
        for i, entry in enumerate(row.entries)
    ]
    return replace(row, entries=tuple(entries))
