"""What a page says of protocols, self-tests, machines and commands, as tables of texts."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from basis.program import IN_A_CHECKOUT, as_called
from harness.analysis.entrants import Entrant, ShownCell
from harness.analysis.report import Report
from harness.records.added import UNKNOWN
from harness.records.model_info import SelfTest
from harness.records.protocol import TaskProtocol
from harness.records.record import RunRecord
from harness.show.lengths import cells, headings
from harness.words import short_length

DIGITS = 12
"""Of a hash, as shown."""


@dataclass(frozen=True)
class FactTable:
    """A table of texts; the first column names its row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def runs_of(report: Report) -> list[RunRecord]:
    """The runs behind the models in detail, from the oldest."""
    found = {run.run_id: run for entrant in report.entrants for run in entrant.runs}
    return sorted(found.values(), key=lambda run: (run.started, run.run_id))


def protocol_facts(report: Report) -> FactTable:
    """A row a task, a value where all models have one, else each model's."""
    columns: dict[str, Callable[[ShownCell], Any]] = {
        "samples": lambda cell: cell.candidate.score.n,
        "seed": lambda cell: _said(cell.candidate.cell.protocol.seed),
        "generator": lambda cell: cell.candidate.cell.protocol.generator or _made(cell.candidate.cell.protocol),
        "version": lambda cell: _said(cell.candidate.cell.protocol.version, "g"),
        "shots": lambda cell: _said(cell.candidate.cell.protocol.shots),
        "window": lambda cell: _said(cell.candidate.cell.protocol.max_length, ","),
        "filled": lambda cell: _percent(cell.candidate.cell.mean_fill),
        "cut": lambda cell: _said(cell.candidate.cell.truncated),
        "generation": lambda cell: _generation(cell.candidate.cell.protocol),
        "data": lambda cell: _data(cell.candidate.cell.protocol),
    }
    places = sorted({place for entrant in report.entrants for place in entrant.cells})
    rows, seen = [], set()
    for place in places:
        having = [(entrant, entrant.cells[place]) for entrant in report.entrants if place in entrant.cells]
        if (label := having[0][1].label) not in seen:
            seen.add(label)
            rows.append((label, *(_shared(having, value) for value in columns.values())))
    return FactTable(("task", *columns), tuple(rows))


def length_facts(report: Report) -> FactTable | None:
    """A row a model and task: up to which length its answers hold, by two rules; None where nothing tells."""
    if not report.lengths:
        return None
    rows = tuple(
        (reach.model, *cells(reach), "—" if reach.trained is None else short_length(reach.trained))
        for reach in report.lengths
    )
    return FactTable(("model", *headings(report.lengths[0]), "trained"), rows)


def run_facts(runs: Sequence[RunRecord]) -> FactTable:
    """A row a run: what fixes its numbers besides its tasks, and what it took."""
    rows = tuple(
        (
            run.run_id,
            run.suite,
            run.protocol_hash[:DIGITS],
            run.model.checkpoint_sha256[:DIGITS],
            run.protocol.tokenizer_sha256[:DIGITS],
            run.protocol.context_prefix,
            run.protocol.dtype,
            run.protocol.lm_eval,
            f"{run.started[:19].replace('T', ' ')} UTC",
            UNKNOWN if run.seconds is None else f"{run.seconds:,.0f} s",
        )
        for run in runs
    )
    columns = ("run", "suite", "protocol", "checkpoint", "tokenizer", "prefix", "dtype", "lm-eval", "started", "took")
    return FactTable(columns, rows)


def self_test_facts(runs: Sequence[RunRecord]) -> FactTable:
    """A row a run: whether its operator agreed with the recurrence in float64, and by how much."""
    rows = tuple((run.run_id, *_self_test(run.model.self_test)) for run in runs)
    return FactTable(("run", "verdict", "backend", "device", "dtype", "comparisons", "largest error"), rows)


def machine_facts(runs: Sequence[RunRecord]) -> FactTable:
    """A row a machine with its packages, and how many runs it made."""
    counted: dict[tuple[str, ...], int] = {}
    for run in runs:
        machine = run.machine
        cores = "core" if machine.cores == 1 else "cores"
        changed = " with changes" if run.git_dirty else ""
        found = (
            machine.gpu or machine.cpu,
            f"{_said(machine.threads)} of {_said(machine.cores)} {cores}, {_said(machine.memory_gib, '.0f')} GiB",
            machine.system,
            machine.python,
            ", ".join(f"{name} {version}" for name, version in run.packages.items()),
            "not known" if run.git_commit is None else f"{run.git_commit[:DIGITS]}{changed}",
        )
        counted[found] = counted.get(found, 0) + 1
    rows = tuple((*found[:1], str(number), *found[1:]) for found, number in counted.items())
    return FactTable(("machine", "runs", "memory", "system", "Python", "packages", "commit"), rows)


def commands_of(report: Report, runs: Sequence[RunRecord]) -> list[str]:
    """What was typed: each run, then the report."""
    lines = [shlex.join(run.command) for run in runs if run.command]
    if report.command:
        lines.append(shlex.join(report.command))
    return [as_called(f"{IN_A_CHECKOUT} {line}") for line in dict.fromkeys(lines)]


def _shared(having: Sequence[tuple[Entrant, ShownCell]], value: Callable[[ShownCell], Any]) -> str:
    found: dict[str, list[str]] = {}
    for entrant, cell in having:
        found.setdefault(str(value(cell)), []).append(entrant.title)
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{text} ({', '.join(titles)})" for text, titles in found.items())


def _generation(protocol: TaskProtocol) -> str:
    if not protocol.generation:
        return "—"
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in sorted(protocol.generation.items()))


def _made(protocol: TaskProtocol) -> str:
    """Where documents without a generator come from; a record that was added does not say."""
    return UNKNOWN if protocol.data is None else "data set"


def _data(protocol: TaskProtocol) -> str:
    return UNKNOWN if protocol.data is None else ", ".join(sorted(protocol.data)) or "—"


def _said(value: float | None, form: str = "") -> str:
    """A number; a record that was added may not say it."""
    return UNKNOWN if value is None else format(value, form)


def _percent(share: float | None) -> str:
    return "—" if share is None else f"{100 * share:.1f} %"


def _self_test(test: SelfTest | None) -> tuple[str, ...]:
    if test is None:
        return ("not in the record", "—", "—", "—", "—", "—")
    if test.passed is None:
        return (f"left out: {test.skipped or 'no reason given'}", "—", "—", "—", "—", "—")
    parts = [(comparison.error or 0.0) / comparison.tolerance for comparison in test.comparisons]
    broken = sum(comparison.error is None for comparison in test.comparisons)
    worst = "—" if not parts else "not finite" if broken else f"{max(parts):.1%} of its tolerance"
    verdict = "passed" if test.passed else "failed"
    said = (test.backend or "—", test.device or "—", test.dtype or "—")
    return (verdict, *said, str(len(test.comparisons)), worst)
