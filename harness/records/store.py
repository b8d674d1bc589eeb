"""Result folders: built beside their place, moved there in one step, never overwritten; and the records in them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from basis.errors import reason
from basis.files import try_writing
from harness.errors import UserError
from harness.records.record import FILE_NAME, RunRecord, read_record


@contextmanager
def new_run_folder(parent: Path, name: str) -> Iterator[tuple[Path, Callable[[], Path]]]:
    """Give a temporary folder to fill, and a function that moves it to its place and returns that.

    The place is `parent/name`, with a number behind it if that exists. Without that call nothing is left.

    Raises:
        UserError: the folder cannot be written, at the beginning or while it is filled.
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
    except OSError as error:
        raise UserError(
            f"{parent}: the results cannot be written ({reason(error)}). What is finished is kept: make room or choose "
            "another --output, then give the same command again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def ensure_folder(folder: Path, flag: str = "--output") -> None:
    """Make a folder and see that it can be written, before hours of work depend on it.

    Args:
        folder: the folder.
        flag: what names another one.

    Raises:
        UserError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try_writing(folder)
    except OSError as error:
        raise _unwritable(folder, error, flag) from error


def find_records(
    folders: Iterable[Path], on_problem: Callable[[str], None] | None = None
) -> list[tuple[Path, RunRecord]]:
    """Find every record below the folders, sorted by path; unfinished and temporary folders are left out.

    Args:
        folders: where to look.
        on_problem: is told of a record that cannot be read, which is then left out; by default that is an error.

    Raises:
        UserError: a folder that does not exist, or without `on_problem` a record that cannot be read.
    """
    found = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder of results")
        for path in sorted(folder.rglob(FILE_NAME)):
            if any(part.startswith(".") for part in path.relative_to(folder).parts):
                continue
            try:
                found.append((path, read_record(path)))
            except UserError as error:
                if on_problem is None:
                    raise
                on_problem(str(error))
    return found


def _sync(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def _unwritable(folder: Path, error: OSError, flag: str = "--output") -> UserError:
    return UserError(f"{folder}: cannot write there ({reason(error)}); choose another folder with {flag}")
