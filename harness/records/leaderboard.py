"""Rows of a suite's table: our records and the papers' figures, and what keeps two of them from being compared.

A cell of ours belongs to a column if task, length and metric are the column's. Whatever else fixes its meaning and is
not as the suite says is a numbered note at the cell; what is passed over for it is said below the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.records.choice import Candidate, Choice, choose, reason_against, score_of
from harness.records.columns import TableColumn, average_headers, table_columns
from harness.records.marks import mark, names_of
from harness.records.published import PublishedRow, published_models, suite_rows
from harness.records.reach import reach_column
from harness.records.record import RunRecord
from harness.records.remarks import number_notes, passed_over, remarks_on, sources_of
from harness.records.steps import step_of
from harness.records.table import Entry, Row, Table
from harness.records.trainings import said_of
from harness.records.view import View, arrange
from tasks.registry import Average, Suite

OURS, THIS_RUN, PAPERS = "this harness", "this run", "papers, "
"""Sections; that of a paper's models has their family behind it."""


def build_table(
    suite: Suite,
    records: Sequence[tuple[Path, RunRecord]],
    published: bool = True,
    run: RunRecord | None = None,
    view: View | None = None,
) -> Table:
    """Build the table of a suite.

    Args:
        suite: whose columns they are.
        records: with the paths of their files. Of several runs of one model, each cell is the one that
            `harness.records.choice` chooses.
        published: whether the papers' rows are added below ours.
        run: one that gets a row of its own where the table's row has other numbers, with the reason.
        view: which rows and columns are shown, and in which order; None: all as they come.

    Raises:
        UserError: the view names a model or a column that is not there.
    """
    return _Builder(suite, records, view or View()).table(published, run)


@dataclass(frozen=True)
class TableModel:
    """A checkpoint with its runs: `title` is its name, and what tells it from another of that name."""

    name: str
    title: str
    runs: tuple[RunRecord, ...]

    @property
    def training(self) -> str | None:
        """The training that it is a checkpoint of."""
        found = step_of(self.name)
        return None if found is None else found[0]

    @property
    def recipe(self) -> tuple[str | None, int | None]:
        """The hash of what it was trained by and its seed, as the first record that knows them says."""
        return said_of(self.runs)

    @property
    def names(self) -> tuple[str, ...]:
        """What it may be called by: as shown, as recorded, and its training."""
        return (self.title, self.name, *([] if self.training is None else [self.training]))


class _Builder:
    """One table being built."""

    def __init__(self, suite: Suite, records: Sequence[tuple[Path, RunRecord]], view: View) -> None:
        self._suite, self._view = suite, view
        self._columns = table_columns(suite)
        self._reach = reach_column(suite, self._columns)
        headers = (*(column.header for column in self._columns), *average_headers(suite, self._columns))
        headers += (self._reach.header,) if self._reach else ()
        self._table = Table(suite.name, suite.description, headers)
        shown = set(view.positions(headers))
        self._shown = [position in shown for position in range(len(headers))]
        self._models = list(table_models([record for _, record in records]))
        self._choices: list[tuple[str, Choice]] = []
        self._lacking: dict[str, list[str]] = {}

    def table(self, published: bool, run: RunRecord | None) -> Table:
        """All of it."""
        papers = self._papers() if published else []
        ours = [name for model in self._models for name in model.names]
        in_table = [*ours, *(name for row, _ in papers for name in _paper_names(row.family, row.name))]
        known = [name for family, model in published_models() for name in _paper_names(family, model)]
        self._view.check(in_table, ours, known)
        for model in self._models:
            if self._view.wants(*model.names):
                self._add_model(model)
        if run is not None:
            self._add_run(run)
        for row, note in papers:
            if self._view.wants(*_paper_names(row.family, row.name)):
                self._add_published(row, note)
        self._table.incomplete = [f"{', '.join(titles)}: {text}" for text, titles in self._lacking.items()]
        self._table.passed = passed_over(self._choices)
        if self._reach and self._shown[-1]:
            self._table.explained.append(self._reach.meaning)
        arrange(self._table, self._view, OURS)
        mark(self._table)
        number_notes(self._table)
        return self._table

    def _add_model(self, model: TableModel) -> None:
        """Its row, and what is to be said below the table."""
        table, title = self._table, self._view.shown(model.title, model.name, training=model.training)
        choices = [choose(self._suite, column, model.runs) for column in self._columns]
        visible = [choice for choice, shown in zip(choices, self._shown, strict=False) if shown]
        if any(choices):
            recipe, seed = model.recipe
            row = replace(self._row(model.name, title, OURS, choices), recipe=recipe, seed=seed)
            table.rows.append(row)
            for text in self._incomplete(row):
                self._lacking.setdefault(text, []).append(title)
            self._choices += [(title, choice) for choice in visible if choice is not None]
        if any(visible) and (missing := self._missing(choices)) is not None:
            table.missing.append(f"{title}: {missing}")
        if unplaced := self._unplaced(model.runs):
            table.unplaced.append(f"{title}: {unplaced}")

    def _row(self, model: str, title: str, section: str, choices: Sequence[Choice | None]) -> Row:
        """The row of these numbers, with the averages that they give."""
        entries = [
            None if choice is None else self._entry(column, choice.shown)
            for column, choice in zip(self._columns, choices, strict=True)
        ]
        averages = (self._mean(average, entries) for average in self._suite.averages)
        reach = (self._reach.entry(entries, self._table.note),) if self._reach else ()
        training, step = step_of(model) or (None, None)
        return Row(title, section, (*entries, *averages, *reach), model=model, training=training, step=step)

    def _entry(self, column: TableColumn, candidate: Candidate) -> Entry:
        score = candidate.score
        scale = 100.0 if score.unit == "share" else 1.0
        return Entry(
            value=score.value * scale,
            low=None if score.low is None else score.low * scale,
            high=None if score.high is None else score.high * scale,
            n=score.n,
            notes=tuple(self._table.note(text) for text in remarks_on(column, candidate)),
            score=score,
            run_id=candidate.run.run_id,
            protocol_hash=candidate.run.protocol_hash,
        )

    def _parts(self, average: Average, entries: Sequence[Entry | None]) -> dict[str, Entry | None]:
        """The numbers of a row that an average is made of, by the columns' names."""
        named = zip(self._columns, entries, strict=False)
        return {column.column.name: entry for column, entry in named if column.column.name in average.of}

    def _mean(self, average: Average, entries: Sequence[Entry | None]) -> Entry | None:
        """The average of named columns; None for a row that lacks one of them."""
        parts = [entry for entry in self._parts(average, entries).values() if entry is not None]
        if len(parts) != len(set(average.of)):
            return None
        notes = tuple(sorted({note for part in parts for note in part.notes}))
        return Entry(value=sum(part.value for part in parts) / len(parts), notes=notes)

    def _incomplete(self, row: Row) -> Iterator[str]:
        """What a row lacks for an average that is shown and that it has some numbers of."""
        first = len(self._columns)
        headers = {column.column.name: column.header for column in self._columns}
        for position, average in enumerate(self._suite.averages, start=first):
            if row.entries[position] is None and self._shown[position]:
                parts = self._parts(average, row.entries)
                lacking = [headers[name] for name, entry in parts.items() if entry is None]
                if len(lacking) < len(parts):  # of what was not begun, the dash says enough
                    yield f"{self._table.headers[position].name}, without {names_of(lacking)}"

    def _missing(self, choices: Sequence[Choice | None]) -> str | None:
        """The tasks that a model was not asked where a package has no rows of them; None where that is not so."""
        pairs = [
            (column, choice)
            for column, choice, shown in zip(self._columns, choices, self._shown, strict=False)
            if shown
        ]
        absent = [column.column.task for column, choice in pairs if choice is None]
        replaced = any(choice is not None and sources_of(choice.shown) for _, choice in pairs)
        return ", ".join(dict.fromkeys(absent)) if absent and replaced else None

    def _unplaced(self, runs: Sequence[RunRecord]) -> str:
        """Cells of runs of this suite that are no column of it as it is now."""
        cells = [cell for run in runs if run.suite == self._suite.name for cell in run.cells]
        return ", ".join(
            dict.fromkeys(
                cell.protocol.label
                for cell in cells
                if any(score.n for score in cell.scores.values())
                and not any(score_of(cell, column) for column in self._columns)
            )
        )

    def _add_run(self, run: RunRecord) -> None:
        """The row of one run, if the table shows other numbers in a column that it has; a note says why."""
        reasons = [
            reason_against(candidate, choice.shown)
            for _, choice in self._choices
            for candidate in choice.passed
            if candidate.run.run_id == run.run_id
        ]
        if not reasons:
            return
        own = [choose(self._suite, column, [run]) for column in self._columns]
        row = self._row(run.name, self._view.shown(run.name), THIS_RUN, own)
        why = self._table.note(f"not in the row above: {' / '.join(dict.fromkeys(reasons))}")
        self._table.rows.append(replace(row, notes=(why,)))

    def _papers(self) -> list[tuple[PublishedRow, str]]:
        """Rows of the papers' tables that the suite names, each with what is to be known of it."""
        said = self._suite.published
        if said is None:
            return []
        return [
            (row, f"published figures, as printed in {row.source}: {said.note}")
            for rows in suite_rows(self._suite).values()
            for row in rows
        ]

    def _add_published(self, row: PublishedRow, note: str) -> None:
        """A published row.

        Figures are matched by the names of columns and averages, or by task and length where a paper's table has
        those.
        """
        values = [
            *(published_figure(row, column) for column in self._columns),
            *(None if average.name is None else row.scores.get(average.name) for average in self._suite.averages),
        ]
        entries = tuple(None if value is None else Entry(float(value)) for value in values)
        entries += (self._reach.entry(entries, self._table.note),) if self._reach else ()
        name, number = self._view.shown(row.name), self._table.note(note)
        self._table.rows.append(
            Row(name, PAPERS + row.family, entries, notes=(number,), model=row.name, source=row.source)
        )


def table_models(records: Sequence[RunRecord]) -> Iterator[TableModel]:
    """Each model with its runs: checkpoints of one name and different weights are several."""
    by_name: dict[str, dict[str, list[RunRecord]]] = {}
    for record in records:
        by_name.setdefault(record.name, {}).setdefault(record.identity, []).append(record)
    for name in sorted(by_name):
        for checkpoint, runs in sorted(by_name[name].items()):
            yield TableModel(name, f"{name} ({checkpoint[:6]})" if len(by_name[name]) > 1 else name, tuple(runs))


def _paper_names(family: str, model: str) -> tuple[str, str]:
    """What a published row may be called by."""
    return model, f"{PAPERS}{family}/{model}"


def published_figure(row: PublishedRow, column: TableColumn) -> float | None:
    """The figure of a paper for a column; None where it has none."""
    name = column.column.name
    if name is not None and name in row.scores:
        return row.scores[name]
    main = column.task.info.metric if column.task else None  # figures by task and length are of the task's metric
    return row.scores.get((column.column.task, column.column.length or 0)) if column.column.metric == main else None
