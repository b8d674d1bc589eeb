"""Result folders, built beside their place and moved there in one step; and the tasks of a run that was interrupted.

What exists is never overwritten.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.records.record import FILE_NAME, RunRecord, read_record

UNFINISHED = ".unfinished"


@contextmanager
def new_run_folder(parent: Path, name: str) -> Iterator[tuple[Path, Callable[[], Path]]]:
    """A temporary folder to fill, and a function that moves it to its place and returns that.

    The place is `parent/name`, with a number behind it if that exists. Without that call nothing is left.

    Raises:
        UserError: the folder cannot be written.
    """
    ensure_folder(parent)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=parent))
    except OSError as error:
        raise _unwritable(parent, error) from error

    def publish() -> Path:
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        temporary.chmod(0o755)
        for number in range(1, 1000):
            target = parent / (name if number == 1 else f"{name}_{number}")
            try:
                target.mkdir()  # claims the name: of two runs that finish together, one takes the next number
            except FileExistsError:
                continue
            temporary.replace(target)
            return target
        raise UserError(f"{parent}: too many results named {name}; move some away")

    try:
        yield temporary, publish
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def ensure_folder(folder: Path) -> None:
    """Make a folder and see that it can be written, before hours of work depend on it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error


class FinishedTasks:
    """Results of single tasks, kept until the whole run is finished; the same run finds them again.

    Args:
        parent: the folder of the model's results.
        key: what makes two runs the same: checkpoint and protocol.
    """

    def __init__(self, parent: Path, key: str) -> None:
        self.folder = parent / UNFINISHED / key

    def load(self, task: str) -> dict[str, Any] | None:
        """What was saved for a task, or None. A damaged file counts as not there: its task runs again."""
        try:
            saved = json.loads((self.folder / f"{task}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return saved if isinstance(saved, dict) and saved.get("task") == task else None

    def save(self, task: str, content: dict[str, Any], default: Callable[[Any], Any]) -> None:
        """Keep a finished task, in one step; `default` as for json.dumps."""
        ensure_folder(self.folder)
        temporary = self.folder / f".{task}.tmp"
        temporary.write_text(json.dumps({"task": task, **content}, default=default), encoding="utf-8")
        _sync(temporary)
        temporary.replace(self.folder / f"{task}.json")

    def clear(self) -> None:
        """Forget everything: the run is finished and published."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another run is unfinished
            self.folder.parent.rmdir()


def find_records(folders: Iterable[Path]) -> list[tuple[Path, RunRecord]]:
    """Every record below the folders, sorted by path; unfinished and temporary folders are left out.

    Raises:
        UserError: a folder that does not exist, or a record that cannot be read.
    """
    found = []
    for folder in folders:
        if not folder.exists():
            raise UserError(f"{folder}: no such folder of results")
        for path in sorted(folder.rglob(FILE_NAME)):
            if not any(part.startswith(".") for part in path.relative_to(folder).parts):
                found.append((path, read_record(path)))
    return found


def _sync(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(f"{folder}: cannot write there ({error.strerror}); choose another folder with --output")
