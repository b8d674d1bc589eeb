"""Studies of models trained on text: each checkpoint is asked a suite as soon as there is a place for it."""

from __future__ import annotations

import threading
from pathlib import Path

from basis import children
from basis.files import is_file
from basis.names import way_out
from gdn2.checkpoints import fingerprint
from gdn2.train.rivals.plan import Rivals
from harness.analysis.selection import find_runs
from harness.errors import UserError
from harness.paths import ROOT
from harness.runs.resolve import check_suite
from tasks.registry import Suite, suite_names

RESULTS = "results"
"""Below a study's folder: the runs of its models."""
FOR_TRAINING = 0.75  # of a time limit; the rest is for questions


class Asking:
    """What the models of a study are asked.

    Args:
        suite: whose columns.
        folder: of the study.
    """

    def __init__(self, suite: Suite, folder: Path) -> None:
        self.suite, self.results = suite, folder.resolve() / RESULTS
        self._lock = threading.Lock()

    def __call__(self, checkpoint: Path, device: str) -> list[str] | None:
        """The command that asks a checkpoint on a device; None if it was asked to the end before."""
        with self._lock:  # the same checkpoint is asked once, but reading is not for many at a time
            if self.is_asked(checkpoint):
                return None
        where = ["--device", device, "--output", str(self.results)]
        asks = ["run", _from_root(checkpoint), "--suite", self._named(), *where]
        return children.command("harness.cli.main", asks)

    def is_asked(self, checkpoint: Path) -> bool:
        """Whether there is a record of this very checkpoint with all that the suite asks."""
        if not self.results.is_dir():
            return False
        wanted = {(column.task, column.length) for column in self.suite.columns}
        identity = fingerprint(checkpoint)
        return any(
            run.record.identity == identity
            and run.record.suite == self.suite.name
            and wanted <= {(cell.protocol.name, cell.protocol.length) for cell in run.record.cells}
            for run in find_runs([self.results], lambda _: None)
        )

    def _named(self) -> str:
        return self.suite.name if self.suite.name in suite_names() else str(self.suite.file.resolve())


def _from_root(path: Path) -> str:
    """A path as the record of a run may say it: below this checkout, where commands start, without the way there."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def asking(rivals: Rivals, folder: Path) -> Asking | None:
    """What the models of a file are asked; None if it does not say.

    Args:
        rivals: the file, whose suite is a name, or a file beside it.
        folder: of the study.

    Raises:
        UserError, TaskError, DataNotStaged: no such suite, or its data is not staged.
    """
    found = suite_file(rivals)
    return None if found is None else Asking(check_suite(found), folder)


def suite_file(rivals: Rivals) -> str | None:
    """The suite that a file names, as `load_suite` takes it: a file beside it, or a name.

    Raises:
        UserError: no suite has the name.
    """
    if rivals.suite is None:
        return None
    beside = rivals.path.parent / rivals.suite
    if is_file(beside):
        return str(beside)
    if rivals.suite not in suite_names() and not rivals.suite.endswith((".yaml", ".yml")):
        hint = way_out(rivals.suite, suite_names())
        raise UserError(f"{rivals.path}: suite: neither a suite nor a file beside it is {rivals.suite!r}; {hint}")
    return rivals.suite
