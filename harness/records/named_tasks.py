"""The table of tasks that were named by --tasks instead of a suite: made of the runs themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.records.record import Cell, RunRecord
from tasks.errors import TaskError
from tasks.registry import Column, Suite, SuiteProtocol, resolve_column
from tasks.suite import short_length

NAME = "tasks"


def suite_of(records: Sequence[RunRecord], on_problem: Callable[[str], None]) -> Suite:
    """Make a suite whose columns are the tasks of runs, each by its first metric.

    Args:
        records: runs; where two have the same task and length, the newest says what the table wants of it.
        on_problem: is told of a task that is not known here any more, which is then left out.
    """
    runs = sorted((record for record in records if record.suite == NAME), key=lambda run: run.started, reverse=True)
    found: dict[tuple[str, int | None], tuple[RunRecord, Cell]] = {}
    for run in runs:
        for cell in run.cells:
            found.setdefault((cell.protocol.name, cell.protocol.length), (run, cell))
    protocol = _protocol([cell for _, cell in found.values()])
    columns = []
    for _, cell in found.values():
        column = _column(cell)
        try:
            known = resolve_column(column, protocol).metrics if column else ()
        except TaskError as error:
            on_problem(f"{cell.protocol.label}: left out of the table ({error})")
            continue
        if column is not None and column.metric in known:
            columns.append(column)
    return Suite(
        name=NAME,
        description="tasks that were run by their names, with --tasks",
        protocol=protocol,
        columns=tuple(columns),
        file=Path(NAME),
    )


def _protocol(cells: Sequence[Cell]) -> SuiteProtocol:
    """What the first of these cells were run with."""
    if not cells:
        return SuiteProtocol()
    made = [cell.protocol.generator for cell in cells if cell.protocol.generator]
    first = cells[0]
    return SuiteProtocol(
        context_prefix=first.context_prefix,
        seed=SuiteProtocol().seed if first.protocol.seed is None else first.protocol.seed,
        generator=made[0] if made and made[0] != "exact" else None,
    )


def _column(cell: Cell) -> Column | None:
    """A cell's column; None where it has no score."""
    said = cell.protocol
    metric = next((metric for metric, score in cell.scores.items() if score.n), None)
    if metric is None:
        return None
    return Column(
        task=said.name,
        metric=metric,
        label=metric if said.length is None else short_length(said.length),
        group=said.name,
        length=said.length,
        samples=said.samples,
        shots=said.shots,
    )
