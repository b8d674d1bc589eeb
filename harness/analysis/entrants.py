"""The models of a table with the cells that it shows of them, and the samples behind these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from harness.analysis.selection import FoundRun, select_runs
from harness.errors import UserError
from harness.records.choice import Candidate, choose
from harness.records.columns import table_columns
from harness.records.leaderboard import table_models
from harness.records.record import RunRecord
from harness.records.samples import Sample
from tasks.registry import Column, Suite


@dataclass(frozen=True)
class ShownCell:
    """A cell that a table shows of a model.

    Attributes:
        place: of its column.
        column: where it stands.
        candidate: the run, cell and score.
        passed: other numbers of the model for it, the best first.
        samples: in their order; empty where no run has kept any.
        samples_from: the run that these are of, where the one that is shown has kept none.
    """

    place: int
    column: Column
    candidate: Candidate
    passed: tuple[Candidate, ...] = ()
    samples: tuple[Sample, ...] = ()
    samples_from: str | None = None

    @property
    def task(self) -> str:
        """lm-eval's name of the task."""
        return self.candidate.cell.lm_eval_name

    @property
    def label(self) -> str:
        """`niah_single_1@1024`."""
        return self.candidate.cell.protocol.label


@dataclass(frozen=True)
class Entrant:
    """A model with what a table shows of it.

    Attributes:
        title: as in the table.
        found: all its runs.
        cells: by the place of their columns.
    """

    title: str
    found: tuple[FoundRun, ...] = ()
    cells: dict[int, ShownCell] = field(default_factory=dict)

    @property
    def runs(self) -> list[RunRecord]:
        """The runs that the cells come from, each once."""
        return list({cell.candidate.run.run_id: cell.candidate.run for cell in self.cells.values()}.values())

    @property
    def stand_ins(self) -> list[str]:
        """For which runs others lend their samples, a sentence each."""
        found = [
            f"{self.title}: {cell.candidate.run.run_id} has kept no samples, those of {cell.samples_from} stand in"
            for cell in self.cells.values()
            if cell.samples_from is not None
        ]
        return list(dict.fromkeys(found))

    @property
    def shares(self) -> dict[str, ShownCell]:
        """By lm-eval's names of tasks, each task from its shortest length: the first cell whose score is a share."""
        found: dict[str, ShownCell] = {}
        first: dict[str, int] = {}
        for cell in self.cells.values():
            first.setdefault(cell.column.task, cell.place)
        for cell in sorted(self.cells.values(), key=lambda one: (first[one.column.task], one.column.length or 0)):
            if cell.candidate.score.unit == "share":
                found.setdefault(cell.task, cell)
        return found


def named_runs(
    names: Sequence[str], runs: Sequence[FoundRun], on_problem: Callable[[str], None] | None = None
) -> list[FoundRun]:
    """The runs that names mean; two runs of one model that were asked for one by one are told apart.

    Args:
        names: as `select_runs` takes them; none of them: all runs.
        runs: where to look.
        on_problem: as for `select_runs`.

    Raises:
        UserError: as `select_runs`.
    """
    if not names:
        return list(runs)
    groups: dict[str, list[FoundRun]] = {name: select_runs(name, runs, on_problem) for name in names}
    models = [(run.record.name, run.record.identity) for group in groups.values() for run in group[:1]]
    found: dict[str, FoundRun] = {}
    for group in groups.values():
        first = group[0].record
        is_shared = models.count((first.name, first.identity)) > 1 and len(group) == 1
        for run in group:
            name = f"{run.record.name} {run.record.run_id.rpartition('/')[2]}" if is_shared else run.record.name
            found.setdefault(run.record.run_id, FoundRun(run.folder, replace(run.record, name=name)))
    return list(found.values())


def entrants_of(
    suite: Suite, runs: Sequence[FoundRun], most: int, on_problem: Callable[[str], None]
) -> tuple[list[Entrant], int]:
    """The models of a suite's table, with their samples.

    Args:
        suite: whose columns they are.
        runs: of any models.
        most: of them, those with the most cells first; samples of others are not read.
        on_problem: is told of samples that cannot be read; the cells are there without them.

    Returns:
        The models in the order of the table, and how many there are beyond `most`.
    """
    folders = {id(run.record): run for run in runs}
    found = []
    columns = table_columns(suite)
    for model in table_models([run.record for run in runs]):
        cells = {}
        for place, column in enumerate(columns):
            if (choice := choose(suite, column, model.runs)) is not None:
                passed = sorted(choice.passed, key=lambda candidate: candidate.rank, reverse=True)
                cells[place] = ShownCell(place, column.column, choice.shown, tuple(passed))
        if cells:
            found.append(Entrant(model.title, tuple(folders[id(record)] for record in model.runs), cells))
    chosen = sorted(range(len(found)), key=lambda place: -len(found[place].cells))[:most]
    read = _Reader(folders, on_problem)
    return [read.samples_of(found[place]) for place in sorted(chosen)], len(found) - len(chosen)


class _Reader:
    """Reads each run's samples once; a run without them is said once, where no other stands in for it."""

    def __init__(self, folders: dict[int, FoundRun], on_problem: Callable[[str], None]) -> None:
        self._folders, self._on_problem = folders, on_problem
        self._known: dict[int, dict[str, list[Sample]]] = {}
        self._reasons: dict[int, str] = {}

    def samples_of(self, entrant: Entrant) -> Entrant:
        return replace(entrant, cells={place: self._with_samples(cell) for place, cell in entrant.cells.items()})

    def _with_samples(self, cell: ShownCell) -> ShownCell:
        """With its own samples, or those of the next best run that was asked by the same protocol."""
        if samples := self._samples(cell.candidate.run).get(cell.task):
            return replace(cell, samples=tuple(samples))
        for other in cell.passed:
            is_alike = other.differences == cell.candidate.differences
            if is_alike and (samples := self._samples(other.run).get(other.cell.lm_eval_name)):
                return replace(cell, samples=tuple(samples), samples_from=other.run.run_id)
        if reason := self._reasons.pop(id(cell.candidate.run), None):
            self._on_problem(reason)
        return cell

    def _samples(self, record: RunRecord) -> dict[str, list[Sample]]:
        key = id(record)
        if key not in self._known:
            try:
                self._known[key] = self._folders[key].samples
            except UserError as error:
                self._known[key] = {}
                self._reasons[key] = str(error)
        return self._known[key]
