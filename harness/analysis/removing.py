"""Runs removed: which would be, whether they may be, and the removing, which touches nothing but their files."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from basis.errors import reason
from harness.analysis.selection import FoundRun, select_runs
from harness.errors import UserError
from harness.records.record import FILE_NAME
from harness.records.samples import FILE_NAME as SAMPLES
from harness.records.samples import LM_EVAL_FILES

FILES = (FILE_NAME, SAMPLES, LM_EVAL_FILES, "results_*.json")
"""What a run writes into its folder."""


def chosen_for_removal(names: Sequence[str], runs: Sequence[FoundRun], folders: Sequence[Path]) -> list[FoundRun]:
    """Find the runs that names mean, each once.

    Args:
        names: as `select_runs` takes them.
        runs: where to look.
        folders: of results; nothing outside them is removed.

    Raises:
        UserError: a name that finds nothing; a run outside the folders, or behind a link; a folder of results itself.
    """
    found: dict[Path, FoundRun] = {}
    tops = [folder.resolve() for folder in folders]
    for name in names:
        if Path(name).is_dir() and Path(name).resolve() in tops:
            raise UserError(f"{name}: a whole folder of results; name its runs, or use a pattern such as 'NAME-*'")
        for run in select_runs(name, runs):
            place = run.folder.resolve()
            if not any(place != top and place.is_relative_to(top) for top in tops):
                known = ", ".join(map(str, folders)) or "none here"
                raise UserError(f"{run.folder}: not inside a folder of results ({known}); say --results FOLDER")
            if place != run.folder.absolute() and run.folder.is_symlink():
                raise UserError(f"{run.folder}: a link; remove what it points to, or the link itself")
            found.setdefault(place, run)
    return list(found.values())


def unnamed(runs: Sequence[FoundRun], names: Sequence[str]) -> list[FoundRun]:
    """The runs that were found by a pattern or a model's name, not by their own."""
    own = {name.rstrip("/") for name in names}
    return [
        run
        for run in runs
        if not own & {run.record.run_id, str(run.folder), str(run.folder / FILE_NAME), run.record.run_id.split("/")[-1]}
    ]


def remove_run(run: FoundRun) -> list[Path]:
    """Remove the files of a run, and its folder and the model's where nothing else is in them.

    Returns:
        What else lies in the folder, which stays.

    Raises:
        UserError: a file cannot be removed.
    """
    try:
        for pattern in FILES:
            for file in run.folder.glob(pattern):
                file.unlink()
    except OSError as error:
        raise UserError(f"{run.folder}: cannot be removed ({reason(error)})") from error
    with contextlib.suppress(OSError):  # not empty
        run.folder.rmdir()
        if run.folder.parent.name == run.record.run_id.partition("/")[0]:
            run.folder.parent.rmdir()
    return sorted(run.folder.iterdir()) if run.folder.is_dir() else []
