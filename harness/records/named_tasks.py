"""The table of tasks that no suite named: made of the runs of --tasks and of lm-eval's results that were added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.records.columns import AddedColumn
from harness.records.record import Cell, RunRecord
from tasks.errors import TaskError
from tasks.registry import Column, Suite, SuiteProtocol, resolve_column
from tasks.suite import short_length

NAME = "tasks"


def is_named(record: RunRecord) -> bool:
    """Whether the tasks of a run were named one by one, to us or to lm-eval."""
    return record.suite == NAME or record.added is not None


def suite_of(records: Sequence[RunRecord], on_problem: Callable[[str], None]) -> Suite:
    """Make a suite whose columns are the tasks of runs, each by its first metric.

    A task of lm-eval's that is not one of ours is a column too, of what its results say.

    Args:
        records: runs; where two have the same task and length, one of ours says what the table wants of it, and of
            several the newest.
        on_problem: is told of a task that is not known here any more, which is then left out.
    """
    runs = sorted(filter(is_named, records), key=lambda run: (run.added is None, run.started), reverse=True)
    found: dict[tuple[str, int | None], list[tuple[RunRecord, Cell]]] = {}
    for run in runs:
        for cell in run.cells:
            found.setdefault((cell.protocol.name, cell.protocol.length), []).append((run, cell))
    firsts = [asked[0] for asked in found.values()]
    protocol = _protocol([cell for run, cell in firsts if run.added is None])
    columns = [_column_of(asked, protocol, on_problem) for asked in found.values()]
    return Suite(
        name=NAME,
        description="tasks that were run by their names, with --tasks or by lm-eval",
        protocol=protocol,
        columns=tuple(column for column in columns if column is not None),
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


def _column_of(
    asked: Sequence[tuple[RunRecord, Cell]], protocol: SuiteProtocol, on_problem: Callable[[str], None]
) -> Column | None:
    """The column of a task and length by the cells that have it; None where none can be shown."""
    column = _column(asked[0][1])
    problem = None
    try:
        if column is not None and column.metric in resolve_column(column, protocol).metrics:
            return column
    except TaskError as error:
        problem = f"{asked[0][1].protocol.label}: left out of the table ({error})"
    theirs = (_added_column(cell) for run, cell in asked if run.added is not None)
    found = next((column for column in theirs if column is not None), None)
    if found is None and problem is not None:
        on_problem(problem)
    return found


def _first_metric(cell: Cell) -> str | None:
    """The first metric with a score; None where there is none."""
    return next((metric for metric, score in cell.scores.items() if score.n), None)


def _column(cell: Cell) -> Column | None:
    """A cell's column; None where it has no score."""
    said, metric = cell.protocol, _first_metric(cell)
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


def _added_column(cell: Cell) -> AddedColumn | None:
    """The column of a cell of lm-eval's; None where it has no score."""
    column = _column(cell)
    if column is None:
        return None
    return AddedColumn(
        task=column.task,
        metric=column.metric,
        label=column.label,
        group=column.group,
        length=column.length,
        samples=column.samples,
        shots=column.shots,
        cell=cell,
    )
