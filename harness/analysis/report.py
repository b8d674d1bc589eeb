"""What a report shows of a suite, as a value: its table, the models in detail, and what they were asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.analysis.asked import AskedSamples, questions_of
from harness.analysis.compare import compare_sides
from harness.analysis.comparison import ModelComparison
from harness.analysis.entrants import Entrant, entrants_of, named_runs
from harness.analysis.lengths import LengthReach, lengths_of
from harness.analysis.selection import FoundRun, all_apart, without_those_apart
from harness.analysis.shown import Model, Spot
from harness.analysis.sides import Side
from harness.errors import UserError
from harness.records.effective import RULER
from harness.records.leaderboard import build_table, table_models
from harness.records.model_info import ModelInfo
from harness.records.table import Table
from harness.words import counted
from tasks.registry import Suite


@dataclass(frozen=True)
class Report:
    """All that a page shows.

    Attributes:
        suite: whose table it is.
        table: every model, ours and published.
        entrants: the models that are shown in detail, in the order of the table.
        others: how many more the table has.
        models: each run's model by the run's id: its title, and what is known of it.
        asked: their samples.
        lengths: how far they reach, task by task; nothing where no task was run at two lengths.
        comparison: of these models, task by task; None where there is nothing to compare.
        uncompared: why that is so; None where there is a comparison.
        command: what was typed to make it.
        problems: what could not be read, one sentence each.
    """

    suite: Suite
    table: Table
    entrants: tuple[Entrant, ...]
    others: int
    models: Mapping[str, tuple[str, ModelInfo]]
    asked: AskedSamples
    lengths: tuple[LengthReach, ...]
    comparison: ModelComparison | None
    uncompared: str | None
    command: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Bounds:
    """How much a page holds.

    Attributes:
        models: that are shown in detail.
        answers: that can be browsed.
    """

    models: int = 12
    answers: int = 20_000


def make_report(
    suite: Suite,
    runs: Sequence[FoundRun],
    names: Sequence[str] = (),
    bounds: Bounds | None = None,
    *,
    command: Sequence[str] = (),
    on_problem: Callable[[str], None],
) -> Report:
    """Gather what a report shows.

    Args:
        suite: whose table it is.
        runs: where to look.
        names: of runs and models, as `select_runs` takes them; none of them: all.
        bounds: how much it may be.
        comparison: of these models, task by task; None where there is nothing to compare.
        uncompared: why that is so; None where there is a comparison.
        command: what was typed.
        on_problem: is told of runs without samples; the report says it, too.

    Raises:
        UserError: a name that nothing has, or no cell that the suite's table would show.
    """
    problems: list[str] = []

    def tell(problem: str) -> None:
        problems.append(problem)
        on_problem(problem)

    bounds = bounds or Bounds()
    chosen = named_runs(names, runs if names else without_those_apart(runs, suite.name), on_problem)
    entrants, others = entrants_of(suite, chosen, bounds.models, tell)
    if not entrants:
        raise UserError(all_apart(runs, suite.name) if runs and not chosen else _nothing(suite, chosen))
    comparison, uncompared = _compared(entrants, suite)
    return Report(
        suite=suite,
        table=build_table(suite, [(run.folder, run.record) for run in chosen]),
        entrants=tuple(entrants),
        others=others,
        models={
            run.run_id: (model.title, run.model)
            for model in table_models([run.record for run in chosen])
            for run in model.runs
        },
        asked=questions_of(entrants, bounds.answers),
        lengths=_lengths(entrants, suite),
        comparison=comparison,
        uncompared=uncompared,
        command=tuple(command),
        problems=tuple(problems),
    )


def _compared(entrants: Sequence[Entrant], suite: Suite) -> tuple[ModelComparison | None, str | None]:
    """The models with one another, or why there is nothing to compare."""
    if len(entrants) < 2:
        return None, "There is one model here; a comparison needs two."
    try:
        return compare_sides([Side(entrant.title, entrant.found) for entrant in entrants], suite), None
    except UserError as error:
        return None, f"Nothing can be compared: {error}."


def _lengths(entrants: Sequence[Entrant], suite: Suite) -> tuple[LengthReach, ...]:
    """The effective lengths of the models by the suite's threshold, or by RULER's where it says none."""
    models = [Model(entrant.title, entrant.found) for entrant in entrants]
    threshold = RULER if suite.effective_length is None else suite.effective_length / 100
    try:
        return tuple(lengths_of(models, [Spot(suite, column) for column in suite.columns], threshold=threshold))
    except UserError:
        return ()


def _nothing(suite: Suite, runs: Sequence[FoundRun]) -> str:
    if not runs:
        return "there are no runs yet; make one with `python run_eval.py run CHECKPOINT`, or name folders by --results"
    suites = ", ".join(sorted({run.record.suite for run in runs}))
    return f"--suite {suite.name}: none of {counted(len(runs), 'run')} has a cell of it; they are of {suites}"
