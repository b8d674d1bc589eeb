"""What a table says beside its numbers and below them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.records.choice import Candidate, Choice, reason_against
from harness.records.columns import TableColumn
from harness.records.table import Row, Table
from tasks import data as staged


def remarks_on(column: TableColumn, candidate: Candidate) -> list[str]:
    """What is to be known of a number of a column: samples, what its protocol has otherwise, and what was lost."""
    cell, score, found = candidate.cell, candidate.score, []
    wanted = column.samples
    if cell.protocol.samples != wanted:
        word = "sample" if cell.protocol.samples == 1 else "samples"
        found.append(f"{cell.protocol.samples or 'all'} {word} instead of {wanted or 'all'}")
    if score.unscored:
        found.append(f"{score.unscored} of {score.n + score.unscored} documents were not scored")
    if candidate.run.model.quantised:
        found.append(f"weights quantised: {candidate.run.model.quantised}")
    found += candidate.differences
    found += sources_of(candidate)
    if empty := cell.documents.get("empty_answers"):
        found.append(f"{empty} answers were empty" if empty > 1 else "one answer was empty")
    if cell.truncated:
        lost = f"{cell.truncated} requests lost their" if cell.truncated > 1 else "one request lost its"
        found.append(f"{lost} beginning (max_length {cell.protocol.max_length})")
    return found


def sources_of(candidate: Candidate) -> list[str]:
    """What its rows are, by the hashes of its protocol, where a package's stand in for those that lm-eval reads."""
    notes = [staged.source_note(name, sha256) for name, sha256 in (candidate.cell.protocol.data or {}).items()]
    return [note for note in notes if note is not None]


def passed_over(choices: Sequence[tuple[str, Choice]]) -> list[str]:
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


def number_notes(table: Table) -> None:
    """Number the notes in the order in which a reader meets them; those of what is not shown go."""
    met: dict[int, int] = {}
    for section in table.sections():
        for row in (None, *section.rows):
            numbers = section.notes if row is None else (*row.shared_notes, *_numbers(row))
            for number in numbers:
                met.setdefault(number, len(met) + 1)
    table.notes = [table.notes[number - 1] for number in met]
    table.rows = [_renumbered(row, met) for row in table.rows]


def _numbers(row: Row) -> list[int]:
    return [number for entry in row.entries if entry is not None for number in entry.notes]


def _renumbered(row: Row, met: dict[int, int]) -> Row:
    def renumber(numbers: Sequence[int]) -> tuple[int, ...]:
        return tuple(sorted(met[number] for number in numbers))

    entries = (None if entry is None else replace(entry, notes=renumber(entry.notes)) for entry in row.entries)
    return replace(row, notes=renumber(row.notes), entries=tuple(entries))
