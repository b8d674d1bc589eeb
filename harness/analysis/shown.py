"""The numbers that pictures show: those of the leaderboard, chosen by its rule, or those of the runs that are named."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from basis.names import way_out
from harness.analysis.selection import FoundRun, all_apart, select_runs, without_those_apart
from harness.errors import UserError
from harness.records.apart import whose_columns_first
from harness.records.choice import choose
from harness.records.columns import TableColumn, resolved_column
from harness.records.named_tasks import NAME as NAMED_TASKS
from harness.records.named_tasks import is_named, suite_of
from harness.records.record import Cell, RunRecord, Score
from harness.records.samples import has_samples
from tasks.errors import TaskError
from tasks.registry import Column, Suite, load_suite

FIRST_SUITE = "ruler_table3"
"""Whose columns count where several suites have a task at a length, as the leaderboard shows it by default."""


@dataclass(frozen=True)
class Model:
    """What one line or panel of a picture stands for.

    Attributes:
        title: its name, which no other model of the picture has.
        runs: whose numbers it may show.
    """

    title: str
    runs: tuple[FoundRun, ...]


@dataclass(frozen=True)
class Spot:
    """A column of a suite: where a number belongs."""

    suite: Suite
    column: Column

    @property
    def key(self) -> tuple[str, int | None, str]:
        """Task, length and metric."""
        return self.column.task, self.column.length, self.column.metric

    @cached_property
    def resolved(self) -> TableColumn:
        """The column with its task, which all models have in common.

        Raises:
            TaskError: a task that is not known here any more.
        """
        return resolved_column(self.suite, self.column)

    def by(self, metric: str) -> Spot:
        """The same task at the same length by another metric."""
        return Spot(self.suite, replace(self.column, metric=metric))


@dataclass(frozen=True)
class Number:
    """A number of a model, with what it comes from."""

    model: Model
    spot: Spot
    score: Score
    cell: Cell
    run: FoundRun


def models_of(
    names: Sequence[str],
    runs: Sequence[FoundRun],
    on_problem: Callable[[str], None] | None = None,
    suite: str | None = None,
) -> list[Model]:
    """Find the models of a picture.

    Args:
        names: as they were typed, each as for `select_runs`; nothing for all models.
        runs: where to look.
        on_problem: as for `select_runs`.
        suite: whose columns are shown, as for `spots_of`; where no model is named, runs of other suites that stand
            apart are left out.

    Returns:
        A model for each checkpoint of each name, in the order of the names. Where two names choose different runs of
        one checkpoint, their titles tell the runs apart.

    Raises:
        UserError, TaskError: a name that means no run, no runs at all, or an unknown suite.
    """
    if not names and not runs:
        raise UserError("there are no runs yet: run_eval.py run CHECKPOINT, or name their folder with --results")
    if not names:
        own = suite if suite in (None, NAMED_TASKS) else load_suite(suite).name
        kept = without_those_apart(runs, own)
        if own is not None and not kept:
            raise UserError(all_apart(runs, own))
        runs = kept
    groups = [select_runs(name, runs, on_problem) for name in names]
    groups = groups or [sorted(runs, key=lambda run: run.record.name)]
    found: list[tuple[str, str, tuple[FoundRun, ...]]] = []
    for group in groups:
        parts: dict[tuple[str, str], list[FoundRun]] = {}
        for run in group:
            parts.setdefault((run.record.name, run.record.identity), []).append(run)
        found += [(*key, tuple(part)) for key, part in parts.items()]
    distinct = [one for position, one in enumerate(found) if one not in found[:position]]
    known = [run.record for run in runs] + [run.record for *_, part in distinct for run in part]
    return [Model(_title(name, sha, part, distinct, known), part) for name, sha, part in distinct]


def _title(
    name: str,
    checkpoint: str,
    runs: tuple[FoundRun, ...],
    found: Sequence[tuple[str, str, tuple[FoundRun, ...]]],
    known: Sequence[RunRecord],
) -> str:
    """As the leaderboard names it, with what tells it from others of the picture."""
    others = {record.identity for record in known if record.name == name}
    title = f"{name} ({checkpoint[:6]})" if len(others) > 1 else name
    if sum((other, sha) == (name, checkpoint) for other, sha, _ in found) == 1:
        return title
    ends = [run.record.run_id.rpartition("/")[2] for run in runs]
    return f"{title} {ends[-1]}" if len(ends) == 1 else f"{title} ({len(ends)} runs to {ends[-1]})"


def spots_of(
    models: Sequence[Model],
    suite: str | None,
    tasks: Sequence[str] = (),
    on_problem: Callable[[str], None] = lambda _: None,
) -> list[Spot]:
    """Find the columns for which a picture may look for numbers.

    Args:
        models: whose runs they are.
        suite: a suite by name or file, or `tasks`; None for all suites that the runs are of.
        tasks: only these: names or patterns, `niah_single_1`, `niah_single_*@2048`.
        on_problem: is told of a task that is not known here any more.

    Raises:
        UserError, TaskError: an unknown suite; `tasks` that match nothing.
    """
    found: dict[tuple[str, int | None, str], Spot] = {}
    for one in _suites(models, suite, on_problem):
        for column in one.columns:
            spot = Spot(one, column)
            found.setdefault(spot.key, spot)
    kept = [spot for spot in found.values() if not tasks or any(_matches(spot, task) for task in tasks)]
    for task in tasks:
        if not any(_matches(spot, task) for spot in kept):
            hint = way_out(task.partition("@")[0], [spot.column.task for spot in found.values()])
            raise UserError(f"--tasks {task}: no column of {suite or 'these runs'} is of it; {hint}")
    return kept


def _suites(models: Sequence[Model], suite: str | None, on_problem: Callable[[str], None]) -> Iterator[Suite]:
    if suite is not None and suite != NAMED_TASKS:
        yield load_suite(suite)
        return
    records = [run.record for model in models for run in model.runs]
    names = {record.suite for record in records} - {NAMED_TASKS} if suite is None else set()
    known, unknown = list[Suite](), {NAMED_TASKS}
    for name in sorted(names, key=lambda name: (name != FIRST_SUITE, name)):
        try:
            known.append(load_suite(name))
        except TaskError:  # a suite of the user's own, whose file the record does not name
            unknown.add(name)
    yield from whose_columns_first(known, [{run.record.suite for run in model.runs} for model in models])
    others = [replace(record, suite=NAMED_TASKS) for record in records if record.suite in unknown or is_named(record)]
    if others:
        yield suite_of(others, on_problem)


def _matches(spot: Spot, pattern: str) -> bool:
    task, _, length = pattern.partition("@")
    fits = not length or fnmatch.fnmatchcase(str(spot.column.length), length)
    return fits and fnmatch.fnmatchcase(spot.column.task, task)


def number_of(model: Model, spot: Spot, runs: Sequence[FoundRun] | None = None) -> Number | None:
    """The number that the leaderboard shows of these runs; None where none of them has this column.

    Args:
        model: whose number it is.
        spot: the column.
        runs: other runs of the model than all.
    """
    found = model.runs if runs is None else runs
    choice = choose(spot.suite, spot.resolved, [run.record for run in found])
    if choice is None:
        return None
    shown = choice.shown
    run = next(run for run in found if run.record is shown.run)
    return Number(model, spot, shown.score, shown.cell, run)


def sampled_number_of(model: Model, spot: Spot, notes: list[str]) -> Number | None:
    """The number of a run with samples beside its record.

    Args:
        model: whose number it is.
        spot: the column.
        notes: where it is said if the run that the leaderboard shows has none and another one stands in.
    """
    shown = number_of(model, spot)
    if shown is None or _is_readable(shown.run, notes):
        return shown
    number = number_of(model, spot, [run for run in model.runs if _is_readable(run, notes)])
    instead = "left out" if number is None else f"shown is {number.run.record.run_id}"
    if not has_samples(shown.run.folder):
        notes.append(f"{shown.run.record.run_id}: no samples beside the record; {instead}")
    return number


def _is_readable(run: FoundRun, notes: list[str]) -> bool:
    """Whether a run has samples; a file that is broken is named."""
    if not has_samples(run.folder):
        return False
    try:
        return bool(run.samples)
    except UserError as error:
        notes.append(str(error))
        return False


def numbers_of(models: Sequence[Model], spots: Sequence[Spot]) -> list[Number]:
    """The numbers of all models at all spots, model by model."""
    found = (number_of(model, spot) for model in models for spot in spots)
    return [number for number in found if number is not None]


def trained_lengths(models: Sequence[Model]) -> dict[str, int]:
    """Tokens of the length that each model's configuration names, by title; without those that no record tells.

    A record has the window that a model was run with, which is its configuration's unless --max-length was typed.
    """
    found = {}
    for model in models:
        said = {
            run.record.model.max_length
            for run in model.runs
            if not any(argument.startswith("--max-l") for argument in run.record.command)
        }
        if len(said) == 1 and (length := said.pop()) is not None:
            found[model.title] = length
    return found
