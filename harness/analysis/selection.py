"""Runs by the names that people type: a folder, a run's id, a model, a pattern."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from basis.names import way_out
from harness.errors import UserError
from harness.records.apart import suites_apart
from harness.records.judged import prompt_rooms
from harness.records.record import FILE_NAME, RunRecord, read_record
from harness.records.samples import Sample, has_samples, read_samples
from harness.records.store import find_records
from harness.words import counted


@dataclass(frozen=True)
class FoundRun:
    """A run with the folder that it lies in.

    Attributes:
        folder: of the record.
        record: as it was read.
    """

    folder: Path
    record: RunRecord

    @cached_property
    def samples(self) -> dict[str, list[Sample]]:
        """Its samples by lm-eval's names of tasks, read once.

        Raises:
            UserError: as `harness.records.samples.read_samples`.
        """
        return read_samples(self.folder, prompt_rooms(self.record.cells))


def find_runs(folders: Iterable[Path], on_problem: Callable[[str], None] | None = None) -> list[FoundRun]:
    """Find every run below the folders, from the oldest to the newest; a copy of a run is not a second one.

    Of several copies the first that has samples beside its record is the run.

    Args:
        folders: where to look.
        on_problem: is told of a record that cannot be read, and of a copy; by default the first is an error. A folder
            that is named twice, or is a link to another, is no copy.

    Raises:
        UserError: a folder that does not exist, or without `on_problem` a record that cannot be read.
    """
    found: dict[str, list[FoundRun]] = {}
    for path, record in find_records(folders, on_problem):
        same_id = found.setdefault(record.run_id, [])
        place = next((place for place, run in enumerate(same_id) if run.record == record), None)
        run = FoundRun(path.parent, record)
        if place is None:
            same_id.append(run)
            continue
        first, copy = same_id[place], run
        if has_samples(run.folder) and not has_samples(first.folder):
            first, copy = run, first
            same_id[place] = run
        if on_problem is not None and copy.folder.resolve() != first.folder.resolve():
            on_problem(f"{copy.folder / FILE_NAME}: a copy of {first.folder / FILE_NAME}")
    return sorted(
        (run for runs in found.values() for run in runs), key=lambda run: (run.record.started, run.record.run_id)
    )


def without_those_apart(runs: Sequence[FoundRun], suite: str | None) -> list[FoundRun]:
    """The runs that a suite's table has where none is asked for by name.

    Args:
        runs: of any suites.
        suite: the table's; one that says `apart` has its own runs alone, and others have those of no such suite. None
            where no suite is asked for: then these are left out where there are others.
    """
    apart = suites_apart([*(run.record.suite for run in runs), *([] if suite is None else [suite])])
    kept = [run for run in runs if run.record.suite == suite or not apart.intersection((run.record.suite, suite))]
    return kept if kept or suite is not None else list(runs)


def all_apart(runs: Sequence[FoundRun], suite: str) -> str:
    """Why `without_those_apart` has left none of some runs, in words."""
    suites = ", ".join(sorted({run.record.suite for run in runs}))
    said = f"--suite {suite}: none of {counted(len(runs), 'run')} of {suites} is for it"
    return f"{said}, which has its own runs alone" if suites_apart([suite]) else f"{said}, unless they are named"


def select_runs(name: str, runs: Sequence[FoundRun], on_problem: Callable[[str], None] | None = None) -> list[FoundRun]:
    """Find the runs that a name means.

    Args:
        name: the folder or record of a run, its id (`model/2026-…_hash`), the part of the id after the model's name
            or after the date, a model's name, or a pattern of names or ids with `*`, `?` or `[…]`; the first of these
            that finds something counts.
        runs: where to look; a folder need not be among them.
        on_problem: is told of a record below a folder that cannot be read, where others can; by default an error.

    Returns:
        At least one run, from the oldest to the newest.

    Raises:
        UserError: nothing has this name; the message has those that look like it.
    """
    path = Path(name)
    file = path if path.name == FILE_NAME else path / FILE_NAME
    if file.is_file():
        return [FoundRun(file.parent, read_record(file))]
    if path.is_dir():
        problems: list[str] = []
        below = find_runs([path], None if on_problem is None else problems.append)
        if problems and not below:
            raise UserError(problems[0])
        if on_problem is not None:
            for problem in problems:
                on_problem(problem)
        if below:
            return below
    ways: tuple[Callable[[RunRecord], bool], ...] = (
        lambda record: record.run_id == name,
        lambda record: record.name == name,
        lambda record: name in (record.run_id.rpartition("/")[2], record.run_id.rpartition("_")[2]),
        lambda record: fnmatch.fnmatchcase(record.name, name) or fnmatch.fnmatchcase(record.run_id, name),
    )
    for way in ways:
        if found := [run for run in runs if way(run.record)]:
            return found
    raise UserError(f"{name}: no run, model or folder of results has this name; {_way_out(name, runs)}")


def _way_out(name: str, runs: Sequence[FoundRun]) -> str:
    if not runs:
        return "there are no runs yet: run_eval.py run CHECKPOINT"
    names, ids = sorted({run.record.name for run in runs}), [run.record.run_id for run in runs]
    return way_out(name, names, also=ids, listed_by="results list")
