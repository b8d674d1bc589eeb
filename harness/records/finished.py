"""The tasks that an interrupted run had finished: kept until the whole run is, and found again by the same command."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basis.errors import FileError
from basis.files import load_json, write_atomically
from harness.errors import UserError
from harness.records.fields import FieldError
from harness.records.former import PRESENT_FORM, lift_cell
from harness.records.protocol import TaskProtocol
from harness.records.record import SCHEMA_VERSION, Cell, read_cell
from harness.records.store import ensure_folder

UNFINISHED = ".unfinished"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinishedTask:
    """One task's cell, and lm-eval's result of it with samples."""

    cell: Cell
    result: dict[str, Any]


class FinishedTasks:
    """Results of single tasks, kept until the whole run is finished; the same run finds them again.

    Args:
        parent: the folder of the model's results.
        key: what makes two runs the same: checkpoint and protocol.
    """

    def __init__(self, parent: Path, key: str) -> None:
        self.folder = parent / UNFINISHED / key

    def load(self, task: str, protocol: TaskProtocol) -> FinishedTask | None:
        """Find what was saved for a task.

        Args:
            task: lm-eval's name of it.
            protocol: as it is run now.

        Returns:
            Its cell and result. None where nothing was saved, or what was saved cannot be taken: that is said, and the
            task runs again, which costs little, because its requests are in the journal.
        """
        file = self.folder / f"{task}.json"
        if not file.exists():
            return None
        try:
            return _read(load_json(file), task, protocol)
        except FieldError as error:
            log.warning("%s: %s; the task runs again", file, error)
        except FileError as error:
            log.warning("%s; the task runs again", error)
        return None

    def save(self, task: str, finished: FinishedTask, default: Callable[[Any], Any]) -> None:
        """Keep a finished task, in one step.

        Args:
            task: lm-eval's name of it.
            finished: its cell and result.
            default: as for json.dumps, for what lm-eval puts into results.

        Raises:
            UserError: the disk cannot take it; what is finished stays.
        """
        ensure_folder(self.folder)
        content = {"task": task, "schema": SCHEMA_VERSION, "cell": finished.cell.as_dict(), "result": finished.result}
        try:
            write_atomically(self.folder / f"{task}.json", json.dumps(content, default=default))
        except FileError as error:
            raise UserError(
                f"{error}. What is finished is kept: make room or choose another --output, then give the same command "
                "again"
            ) from error

    def clear(self) -> None:
        """Forget everything: the run is finished and published."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another run is unfinished
            self.folder.parent.rmdir()


def _read(saved: Any, task: str, protocol: TaskProtocol) -> FinishedTask:
    """Make a finished task of what was saved, by this version or an earlier one.

    Raises:
        FieldError: it is no such thing, of another task or protocol, or of a newer version.
    """
    if not isinstance(saved, Mapping) or saved.get("task") != task:
        raise FieldError("task", f"this is not what a run saves of {task}")
    schema, cell = saved.get("schema", 3), saved.get("cell")  # until schema 3 it was not said
    if type(schema) is not int or not 1 <= schema <= SCHEMA_VERSION:
        raise FieldError("schema", f"not one that this version reads ({SCHEMA_VERSION})")
    if schema < PRESENT_FORM:
        plain = protocol.as_dict()
        cell = lift_cell(cell, "cell", {(protocol.name, repr(protocol.length)): plain})
    try:
        found = read_cell(cell)
    except FieldError as error:
        raise FieldError("cell", str(error)) from error
    if found.protocol != protocol or found.lm_eval_name != task:
        raise FieldError("cell.protocol", "not that of this run")
    result = saved.get("result")
    if not isinstance(result, dict) or not isinstance(result.get("results"), dict):
        raise FieldError("result.results", "no result of lm-eval")
    samples = result.get("samples")
    rows = samples.get(task) if isinstance(samples, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise FieldError(f"result.samples.{task}", "no samples of lm-eval")
    return FinishedTask(found, result)
