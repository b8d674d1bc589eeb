"""Models compared with one another: `compare_runs` for runs that are at hand, `compare_sides` for anything.

Each pair of models at each place that both have; then Holm's correction over all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

from basis.names import listed
from harness.analysis.comparison import ALPHA, MeanComparison, ModelComparison, PairComparison, TaskComparison
from harness.analysis.grid import grid_of, suite_behind, title_of
from harness.analysis.means import compare_means
from harness.analysis.places import Compared, LeftOut, compare_place
from harness.analysis.selection import FoundRun
from harness.analysis.sides import GridPlace, Side, sides_of_runs, told_apart
from harness.analysis.significance import holm
from harness.errors import UserError
from harness.records.samples import has_samples
from harness.records.trainings import said_of
from tasks.registry import Suite


def compare_runs(runs: Sequence[FoundRun], suite: Suite | None = None, anyway: bool = False) -> ModelComparison:
    """Compare the models of these runs; `harness.show.comparison.print_comparison` draws the result.

    Args:
        runs: of at least two checkpoints, such as those that were just finished: `FoundRun(folder, record)`. Of several
            runs of one checkpoint each number is the one that `harness.records.choice` chooses.
        suite: whose columns are compared; None for those of the suites that the runs are of.
        anyway: as for `compare_sides`.

    Returns:
        The comparison. A pair of models without anything in common is in it, with the reason.

    Raises:
        UserError: fewer than two models, or no pair has anything in common; says what differs.
    """
    return compare_sides(sides_of_runs(runs), suite, anyway)


def compare_sides(sides: Sequence[Side], suite: Suite | None = None, anyway: bool = False) -> ModelComparison:
    """Compare models, trainings and published rows.

    Args:
        sides: at least two.
        suite: as for `compare_runs`.
        anyway: whether to compare numbers of different protocols too; they are marked.

    Raises:
        UserError: fewer than two sides, or no pair has anything in common; says what differs.
    """
    if len(sides) < 2:
        raise UserError(f"nothing to compare {sides[0].label if sides else 'nothing'} with: name two models or more")
    sides, notes = told_apart(sides), list[str]()
    grid = grid_of(sides, suite, lambda problem: notes.append(f"not known here any more: {problem}"))
    suite = suite or suite_behind(sides)
    notes += [*_same_runs(sides), *_of_one_seed(sides), *_without_samples(sides, grid)]
    places = _possible_tests(sides, grid)
    alphas = ALPHA / max(1, sum(places)), ALPHA / max(1, sum(map(bool, places)))
    pairs = tuple(_compare_two(a, b, grid, suite, alphas, anyway) for a, b in combinations(sides, 2))
    if not any(pair.tasks for pair in pairs):
        raise UserError("; ".join(dict.fromkeys(f"{pair.a} and {pair.b}: {pair.problem}" for pair in pairs)))
    pairs, tests = _corrected(pairs)
    return ModelComparison(
        title=title_of(sides, suite, grid),
        models=tuple(side.label for side in sides),
        pairs=pairs,
        tests=tests,
        notes=tuple(dict.fromkeys(notes)),
    )


def _compare_two(
    a: Side, b: Side, grid: Sequence[GridPlace], suite: Suite | None, alphas: tuple[float, float], anyway: bool
) -> PairComparison:
    """One pair of models at every place that both have; the levels are those of a place and of a mean."""
    found: list[Compared] = []
    left: list[LeftOut] = []
    for at in grid:
        outcome = compare_place(a, b, at, alphas[0], anyway)
        if isinstance(outcome, Compared):
            found.append(outcome)
        elif outcome is not None:
            left.append(outcome)
    return PairComparison(
        a=a.label,
        b=b.label,
        tasks=tuple(each.task for each in found),
        means=compare_means(found, suite, alphas[1]),
        left_out=tuple((each.label, each.reason) for each in left),
        problem=None if found else _problem(left),
    )


def _problem(left: Sequence[LeftOut]) -> str:
    """Why two models have nothing to compare."""
    if not left:
        return "no task and length in common; run both on one suite"
    reasons = list(dict.fromkeys(each.reason for each in left))
    return f"nothing that can be compared ({listed(reasons, 3)}); run them alike, or say --anyway"


def _possible_tests(sides: Sequence[Side], grid: Sequence[GridPlace]) -> list[int]:
    """Of each pair the places that both have: the tests that Holm's first step may have to share the level among."""
    has = [[side.has(at) for at in grid] for side in sides]
    return [sum(one and other for one, other in zip(a, b, strict=True)) for a, b in combinations(has, 2)]


def _corrected(pairs: Sequence[PairComparison]) -> tuple[tuple[PairComparison, ...], int]:
    """The pairs with Holm's p: over all places of all pairs; of means, over the pairs that have the mean."""
    tasks = [task for pair in pairs for task in pair.tasks]
    by_task = iter(holm([task.p for task in tasks]))
    means = [mean for pair in pairs for mean in pair.means]
    by_mean: dict[str, Iterator[float | None]] = {
        label: iter(holm([mean.p for mean in means if mean.label == label])) for label in {mean.label for mean in means}
    }

    def corrected_task(task: TaskComparison) -> TaskComparison:
        return replace(task, p_corrected=next(by_task))

    def corrected_mean(mean: MeanComparison) -> MeanComparison:
        return replace(mean, p_corrected=next(by_mean[mean.label]))

    found = tuple(
        replace(
            pair,
            tasks=tuple(corrected_task(task) for task in pair.tasks),
            means=tuple(corrected_mean(mean) for mean in pair.means),
        )
        for pair in pairs
    )
    return found, sum(task.p is not None for task in tasks)


def _without_samples(sides: Sequence[Side], grid: Sequence[GridPlace]) -> Iterator[str]:
    """Runs whose samples a comparison would have taken, had they any: each once, whatever it is compared with."""
    sampled = [side for side in sides if side.runs]
    if len(sampled) < 2:
        return
    shown = [found.run for side in sampled for at in grid if (found := side.shown(at)) is not None]
    for run in {run.folder: run for run in shown}.values():
        if not has_samples(run.folder):
            yield f"{run.record.run_id}: no samples beside the record; run it again, or take its whole folder along"


def _same_runs(sides: Sequence[Side]) -> Iterator[str]:
    """Runs that stand on two sides: comparing them says nothing."""
    for a, b in combinations(sides, 2):
        common = {run.record.run_id for run in a.all_runs()} & {run.record.run_id for run in b.all_runs()}
        for run_id in sorted(common):
            yield f"{a.label} and {b.label} are the same run, {run_id}"


def _of_one_seed(sides: Sequence[Side]) -> Iterator[str]:
    """Checkpoints of different trainings whose records say a seed: what differs may be the seed."""
    said = {id(side): said_of(run.record for run in side.runs)[0] for side in sides}
    single = [side for side in sides if said[id(side)] is not None]
    if len({said[id(side)] for side in single}) > 1:
        yield (
            f"{', '.join(side.label for side in single)}: one seed each of their trainings, so a difference is one "
            "between these checkpoints, other seeds may have another; --seeds compares trainings, from three seeds on"
        )
