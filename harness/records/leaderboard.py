"""Rows of a suite's table: our records and the papers' figures, and what keeps two of them from being compared.

A cell of ours belongs to a column if task, length and metric are the column's. Whatever else fixes its meaning and is
not as the suite says is a numbered note at the cell; what is passed over for it is said below the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.records.choice import Candidate, Choice, choose, reason_against
from harness.records.published import PublishedRow, table_rows
from harness.records.record import RunRecord
from harness.records.table import Entry, Header, Row, Table
from tasks import data as staged
from tasks.families import unit_of
from tasks.metrics import Unit
from tasks.registry import Average, Column, Published, Suite, resolve_column

DECIMALS: dict[Unit, int] = {"share": 1, "bits": 3, "perplexity": 2, "number": 2}
OURS, THIS_RUN = "this harness", "this run"


def build_table(
    suite: Suite, records: Sequence[tuple[Path, RunRecord]], published: bool = True, run: RunRecord | None = None
) -> Table:
    """Build the table of a suite.

    Args:
        suite: whose columns they are.
        records: with the paths of their files. Of several runs of one model, each cell is the one that
            `harness.records.choice` chooses.
        published: whether the papers' rows are added below ours.
        run: one that gets a row of its own where the table's row has other numbers, with the reason.
    """
    averages = tuple(Header(average.group, average.label, 1, True) for average in suite.averages)
    headers = (*(_header(suite, column) for column in suite.columns), *averages)
    table = Table(suite.name, suite.description, headers)
    passed_over: list[tuple[str, Choice]] = []
    for title, runs in _models([record for _, record in records]):
        choices = [choose(suite, column, runs) for column in suite.columns]
        shown = [None if choice is None else choice.shown for choice in choices]
        if any(shown):
            table.rows.append(_row(table, suite, title, OURS, shown))
            if (missing := _missing(suite, shown)) is not None:
                table.missing.append(f"{title}: {missing}")
            passed_over += [(title, choice) for choice in choices if choice is not None]
    if run is not None:
        _add_run(table, suite, run, passed_over)
    table.passed = _passed(passed_over)
    if published and suite.published is not None:
        _add_published(table, suite, suite.published)
    _mark_best(table)
    return table


def _models(records: Sequence[RunRecord]) -> Iterator[tuple[str, list[RunRecord]]]:
    """Each model's title with its runs: checkpoints of one name and different weights are several."""
    for name in sorted({record.name for record in records}):
        named = [record for record in records if record.name == name]
        checkpoints = sorted({record.model.checkpoint_sha256 for record in named})
        for checkpoint in checkpoints:
            title = f"{name} ({checkpoint[:6]})" if len(checkpoints) > 1 else name
            yield title, [record for record in named if record.model.checkpoint_sha256 == checkpoint]


def _header(suite: Suite, column: Column) -> Header:
    config = resolve_column(column, suite.protocol).config
    entry = next(entry for entry in config["metric_list"] if entry["metric"] == column.metric)
    return Header(column.group, column.label, DECIMALS[unit_of(column.metric)], bool(entry["higher_is_better"]))


def _row(table: Table, suite: Suite, title: str, section: str, shown: Sequence[Candidate | None]) -> Row:
    """The row of these numbers, with the averages that they give."""
    entries = [
        None if candidate is None else _entry(table, suite, column, candidate)
        for column, candidate in zip(suite.columns, shown, strict=True)
    ]
    return Row(title, section, (*entries, *(_mean(suite, average, entries) for average in suite.averages)))


def _entry(table: Table, suite: Suite, column: Column, candidate: Candidate) -> Entry:
    score = candidate.score
    scale = 100.0 if score.unit == "share" else 1.0
    return Entry(
        value=score.value * scale,
        low=None if score.low is None else score.low * scale,
        high=None if score.high is None else score.high * scale,
        n=score.n,
        notes=tuple(table.note(text) for text in _remarks(suite, column, candidate)),
    )


def _remarks(suite: Suite, column: Column, candidate: Candidate) -> list[str]:
    """What is to be known of a number: samples, what its protocol has otherwise, and what was lost."""
    cell, score, found = candidate.cell, candidate.score, []
    wanted = resolve_column(column, suite.protocol).samples
    if cell.protocol.samples != wanted:
        found.append(f"{cell.protocol.samples or 'all'} samples instead of {wanted or 'all'}")
    if score.unscored:
        found.append(f"{score.unscored} of {score.n + score.unscored} documents were not scored")
    if candidate.run.model.quantised:
        found.append(f"weights quantised: {candidate.run.model.quantised}")
    found += candidate.differences
    found += _sources(candidate)
    if empty := cell.documents.get("empty_answers"):
        found.append(f"{empty} answers were empty")
    if cell.truncated:
        found.append(f"{cell.truncated} requests lost their beginning (max_length {cell.protocol.max_length})")
    return found


def _sources(candidate: Candidate) -> list[str]:
    """What its rows are, by the hashes of its protocol, where a package's stand in for those that lm-eval reads."""
    notes = [staged.source_note(name, sha256) for name, sha256 in candidate.cell.protocol.data.items()]
    return [note for note in notes if note is not None]


def _missing(suite: Suite, shown: Sequence[Candidate | None]) -> str | None:
    """The tasks that a model was not asked where a package has no rows of them; None where that is not so."""
    absent = [column.task for column, candidate in zip(suite.columns, shown, strict=True) if candidate is None]
    replaced = any(candidate is not None and _sources(candidate) for candidate in shown)
    return ", ".join(dict.fromkeys(absent)) if absent and replaced else None


def _mean(suite: Suite, average: Average, entries: Sequence[Entry | None]) -> Entry | None:
    """The average of named columns; None for a row that lacks one of them."""
    parts = [entry for column, entry in zip(suite.columns, entries, strict=True) if column.name in average.of and entry]
    if len(parts) != len(average.of):
        return None
    notes = tuple(sorted({note for part in parts for note in part.notes}))
    return Entry(value=sum(part.value for part in parts) / len(parts), notes=notes)


def _add_run(table: Table, suite: Suite, run: RunRecord, choices: Sequence[tuple[str, Choice]]) -> None:
    """The row of one run, if the table shows other numbers in a column that it has; a note says why."""
    reasons = [
        reason_against(candidate, choice.shown)
        for _, choice in choices
        for candidate in choice.passed
        if candidate.run.run_id == run.run_id
    ]
    if not reasons:
        return
    own = [choose(suite, column, [run]) for column in suite.columns]
    row = _row(table, suite, run.name, THIS_RUN, [None if choice is None else choice.shown for choice in own])
    why = table.note(f"not in the row above: {' / '.join(dict.fromkeys(reasons))}")
    table.rows.append(replace(row, section_note=why))


def _passed(choices: Sequence[tuple[str, Choice]]) -> list[str]:
    """What was passed over, a sentence for each model and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for title, choice in choices:
        for candidate in choice.passed:
            reason = reason_against(candidate, choice.shown)
            found.setdefault((title, reason), []).append(candidate.run.run_id)
    sentences = []
    for (title, reason), runs in found.items():
        ids = list(dict.fromkeys(runs))
        of = f"the run {ids[0]}" if len(ids) == 1 else f"{len(ids)} runs"
        cells = "one cell" if len(runs) == 1 else f"{len(runs)} cells"
        sentences.append(f"{title}: {cells} of {of} ({reason})")
    return sentences


def _add_published(table: Table, suite: Suite, published: Published) -> None:
    """Rows of the papers' tables that the suite names.

    Figures are matched by the names of columns and averages, or by task and length where a paper's table has those.
    """
    for reference in published.tables:
        for row in table_rows(reference):
            note = table.note(f"published figures, as printed in {row.source}: {published.note}")
            values = [
                *(published_figure(row, suite, column) for column in suite.columns),
                *(None if average.name is None else row.scores.get(average.name) for average in suite.averages),
            ]
            entries = tuple(None if value is None else Entry(value) for value in values)
            table.rows.append(Row(row.name, f"papers, {row.family}", entries, section_note=note))


def published_figure(row: PublishedRow, suite: Suite, column: Column) -> float | None:
    """The figure of a paper for a column; None where it has none."""
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
