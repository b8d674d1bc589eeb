"""What is compared with what: a model with its runs, a training with its seeds, a row of a paper."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from basis.names import listed
from harness.analysis.comparison import Place
from harness.analysis.pairing import KeyedTerms, Way, terms, total
from harness.analysis.selection import FoundRun
from harness.errors import UserError
from harness.records.apart import takes
from harness.records.choice import choose
from harness.records.columns import TableColumn, resolved_column
from harness.records.record import Cell, Score
from harness.records.steps import step_of
from harness.records.trainings import MOST_NAMED, Said, of_one_training, said_of
from tasks.errors import TaskError
from tasks.metrics import Unit
from tasks.registry import Column, Suite

CLOSE = 1e-6
"""How near to its number what samples make of it must be, relative and absolute."""


@dataclass(frozen=True)
class GridPlace:
    """A place with the column that says which of several runs it takes.

    Attributes:
        place: task, length and metric.
        suite: whose column it is; None for a task that is not known here any more.
        column: the column.
    """

    place: Place
    suite: Suite | None = None
    column: Column | None = None

    @cached_property
    def resolved(self) -> TableColumn | None:
        """The column with its task, which all models have in common; None where there is none.

        Raises:
            TaskError: a task that is not known here any more.
        """
        return None if self.suite is None or self.column is None else resolved_column(self.suite, self.column)


@dataclass(frozen=True)
class Shown:
    """The number of a model at a place, with the run that it comes from."""

    run: FoundRun
    cell: Cell
    score: Score
    _terms: dict[tuple[str, Unit, Way], KeyedTerms] = field(default_factory=dict, compare=False, repr=False)
    _added_up: dict[tuple[str, Unit], bool] = field(default_factory=dict, compare=False, repr=False)

    def terms(self, metric: str, unit: Unit, way: Way = "sample") -> KeyedTerms:
        """The terms of the samples behind it, made once for all pairs.

        Args:
            metric: as for `harness.analysis.pairing.terms`.
            unit: likewise.
            way: likewise.
        """
        key = metric, unit, way
        if key not in self._terms:
            samples = self.run.samples.get(self.cell.lm_eval_name, [])
            self._terms[key] = terms(samples, metric, unit, way)
        return self._terms[key]

    def adds_up(self, metric: str, unit: Unit) -> bool:
        """Whether the samples' scores, added up, make the number: not if it is a median, an F1 or a user's own way.

        Args:
            metric: as for `terms`, also in that all pairs have it.
            unit: likewise.
        """
        if (metric, unit) not in self._added_up:
            found = self.terms(metric, unit)
            made, said = total(found.arrays, unit), self.score.value
            is_so = bool(found) if made is None else math.isclose(made, said, rel_tol=CLOSE, abs_tol=CLOSE)
            self._added_up[metric, unit] = is_so
        return self._added_up[metric, unit]


@dataclass(frozen=True)
class Figure:
    """A published figure: a share from 0 to 1, or a number in its unit; `n` is what its column here asks for."""

    value: float
    n: int | None


@dataclass(frozen=True)
class Side:
    """One of the models that are compared.

    Attributes:
        label: in tables.
        runs: of one checkpoint; none of a training or a paper.
        seeds: of a training, a side for each seed.
        figures: of a paper's row.
        source: of a paper's row: what it is called there.
    """

    label: str
    runs: tuple[FoundRun, ...] = ()
    seeds: tuple[Side, ...] = ()
    figures: Mapping[Place, Figure] = field(default_factory=dict)
    source: str | None = None
    _chosen: dict[tuple[Place, Path | None], Shown | None] = field(default_factory=dict, compare=False, repr=False)

    def all_runs(self) -> list[FoundRun]:
        """Its runs and those of its seeds."""
        return [*self.runs, *(run for seed in self.seeds for run in seed.runs)]

    def members(self) -> tuple[Side, ...]:
        """Its seeds; itself where it has none."""
        return self.seeds or (self,)

    def has(self, at: GridPlace) -> bool:
        """Whether it has a number at a place, of a training all its seeds."""
        if self.seeds:
            return all(seed.has(at) for seed in self.seeds)
        return at.place in self.figures or self.shown(at) is not None

    def shown(self, at: GridPlace) -> Shown | None:
        """The number at a place; of several runs the one that `harness.records.choice` chooses, once for all pairs."""
        key = at.place, None if at.suite is None else at.suite.file
        if key not in self._chosen:
            self._chosen[key] = self._choose(at)
        return self._chosen[key]

    def _choose(self, at: GridPlace) -> Shown | None:
        place = at.place
        found = [
            Shown(run, cell, score)
            for run in self.runs
            if at.suite is None or takes(at.suite, run.record)
            for cell in run.record.cells
            if (cell.protocol.name, cell.protocol.length) == (place.task, place.length)
            and (score := cell.scores.get(place.metric)) is not None
            and score.n
        ]
        if len(found) > 1 and at.suite is not None:
            try:
                column = at.resolved
                choice = None if column is None else choose(at.suite, column, [run.record for run in self.runs])
            except TaskError:  # a task of one's own whose file is gone
                choice = None
            if choice is not None:
                return next(each for each in found if each.cell is choice.shown.cell)
        return max(found, key=lambda each: (each.score.n, each.run.record.started), default=None)


def sides_of_runs(runs: Sequence[FoundRun]) -> list[Side]:
    """Make a side of each checkpoint, in the order in which they come first.

    Args:
        runs: of any checkpoints; those of one name and different weights are several.
    """
    models: dict[tuple[str, str], list[FoundRun]] = {}
    for run in runs:
        models.setdefault((run.record.name, run.record.identity), []).append(run)
    return [Side(name, tuple(found)) for (name, _), found in models.items()]


def training(label: str, models: Sequence[Side], anyway: bool = False) -> Side:
    """Make one side of models that are the seeds of one training; of a single model it is one seed.

    Args:
        label: what it is called.
        models: its seeds; the side has them in the order of the seeds, where all records say one.
        anyway: whether models of several recipes are taken too.

    Raises:
        UserError: some of them are checkpoints of one seed, such as `name@1000` and `name@2000`, or their records name
            several recipes.
    """
    for model in models:
        if len(same := [other.label for other in models if other is model or _are_of_one_seed(model, other)]) > 1:
            raise UserError(
                f"{label}: {listed(same, MOST_NAMED)} are checkpoints of one training, not "
                "seeds; give --seeds one checkpoint of each seed, or leave it out to compare the steps themselves"
            )
    by_recipe: dict[str, str] = {}
    for model in models:
        if (recipe := _said(model)[0]) is not None:
            by_recipe.setdefault(recipe, model.label)
    if len(by_recipe) > 1 and not anyway:
        raise UserError(
            f"{label}: {listed(list(by_recipe.values()), MOST_NAMED)} are of {len(by_recipe)} recipes, as their "
            "records say, so they are no seeds of one training; give --seeds a name for each training, or say --anyway"
        )
    return Side(label, seeds=_in_order(models))


def _in_order(models: Sequence[Side]) -> tuple[Side, ...]:
    """Models from the lowest seed to the highest; as they come where a record says none."""
    seeds = [seed for model in models if (seed := _said(model)[1]) is not None]
    if len(seeds) < len(models):
        return tuple(models)
    return tuple(model for _, model in sorted(zip(seeds, models, strict=True), key=lambda pair: pair[0]))


def _are_of_one_seed(a: Side, b: Side) -> bool:
    """Whether two checkpoints have one seed, as their records say; for want of that, one name before the step."""
    if None not in (*_said(a), *_said(b)):
        return _said(a) == _said(b)
    names = {model.label if (said := step_of(model.label)) is None else said[0] for model in (a, b)}
    return len(names) == 1


def _said(model: Side) -> Said:
    return said_of(run.record for run in model.runs)


def are_seeds(models: Sequence[Side]) -> bool:
    """Whether models are the seeds of one training, as their records say: one recipe, and no seed twice."""
    return of_one_training([*map(_said, models)])


def told_apart(sides: Sequence[Side]) -> list[Side]:
    """Give sides of one label longer ones: with the run's own name, or with digits of the checkpoint."""
    for behind in (_own_name, lambda _, place: str(place)):  # the same run named twice has one name still
        counts = Counter(side.label for side in sides)
        sides = [
            side if counts[side.label] == 1 else replace(side, label=f"{side.label} ({behind(side, place)})")
            for place, side in enumerate(sides, 1)
        ]
    return list(sides)


def _own_name(side: Side, place: int) -> str:
    if len(side.runs) == 1:
        return side.runs[0].record.run_id.rpartition("/")[2]
    return side.runs[0].record.identity[:6] if side.runs else str(place)
