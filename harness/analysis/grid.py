"""Which places models are compared at: the columns of a suite, or what their runs have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from harness.analysis.comparison import Place
from harness.analysis.sides import GridPlace, Side
from harness.records.apart import whose_columns_first
from harness.records.named_tasks import NAME, suite_of
from harness.records.record import RunRecord
from tasks.errors import TaskError
from tasks.registry import Suite, load_suite


def grid_of(sides: Sequence[Side], suite: Suite | None, on_problem: Callable[[str], None]) -> list[GridPlace]:
    """Find the places of a comparison.

    Args:
        sides: what is compared.
        suite: whose columns they are; None for the columns of the suites that were run, and for tasks in none of
            them their first metric.
        on_problem: is told of a task that is not known here any more; it is compared by its first metric all the same.

    Returns:
        Places that at least one side has, each once.
    """
    records = [run.record for side in sides for run in side.all_runs()]
    there = {(cell.protocol.name, cell.protocol.length) for record in records for cell in record.cells}
    published = {place for side in sides for place in side.figures}
    if suite is not None:
        return [at for at in _columns(suite) if _key(at) in there or at.place in published]
    found: dict[Place, GridPlace] = {}
    asked = [{run.record.suite for run in side.all_runs()} for side in sides if side.all_runs()]
    for known in whose_columns_first(_suites(records), asked):
        for at in _columns(known):
            if _key(at) in there:
                found.setdefault(at.place, at)
    covered = {_key(at) for at in found.values()}
    for at in _named(records, on_problem):
        if _key(at) not in covered:
            found.setdefault(at.place, at)
    if not records:
        found |= {place: GridPlace(place) for place in published}
    return list(found.values())


def title_of(sides: Sequence[Side], suite: Suite | None, grid: Sequence[GridPlace]) -> str:
    """What a comparison is called: its suite, or those of the runs that it has numbers of."""
    if suite is not None:
        return suite.name
    members = [member for side in sides for member in side.members()]
    common = [at for at in grid if sum(side.has(at) for side in sides) > 1]
    shown = [found for at in common for member in members if (found := member.shown(at)) is not None]
    return ", ".join(dict.fromkeys(found.run.record.suite for found in shown)) or "published figures"


def suite_behind(sides: Sequence[Side]) -> Suite | None:
    """The suite that all runs are of, if it is one and known here."""
    records = [run.record for side in sides for run in side.all_runs()]
    suites = _suites(records)
    return suites[0] if len(suites) == 1 and len({record.suite for record in records}) == 1 else None


def _columns(suite: Suite) -> list[GridPlace]:
    return [GridPlace(Place(column.task, column.length, column.metric), suite, column) for column in suite.columns]


def _key(at: GridPlace) -> tuple[str, int | None]:
    return at.place.task, at.place.length


def _suites(records: Iterable[RunRecord]) -> list[Suite]:
    """The suites that were run, of those that are known here."""
    found = []
    for name in dict.fromkeys(record.suite for record in records):
        try:
            found.append(load_suite(name))
        except TaskError:  # of --tasks, or of a file of the user's own
            continue
    return found


def _named(records: Sequence[RunRecord], on_problem: Callable[[str], None]) -> list[GridPlace]:
    """Every task of the runs by its first metric, with a column where the task is known here."""
    suite = suite_of([replace(record, suite=NAME) for record in records], on_problem)
    found = {_key(at): at for at in _columns(suite)}
    for record in records:
        for cell in record.cells:
            metric = next((metric for metric, score in cell.scores.items() if score.n), None)
            if metric is not None:
                place = Place(cell.protocol.name, cell.protocol.length, metric)
                found.setdefault((place.task, place.length), GridPlace(place))
    return list(found.values())
