"""Finished requests, on disk at once: what the same command finds after it was killed.

One file, one line an entry: eight hex digits of a CRC-32, a space, JSON. An entry says whose the others are (it is
written twice at the beginning, and again whenever the file is opened), or what a request gave (`score` or `ids`), or
how many seconds a task has taken so far (`spent_on`). A file of another checkpoint or protocol is refused, never
mixed. A damaged line is passed over, the others count; a line that a kill or a full disk cut short is removed.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from basis.errors import reason
from harness.engine.journal_lines import Contents, Kept, Result, kept, line_of, read_contents
from harness.engine.snapshot import Snapshots
from harness.errors import UserError

log = logging.getLogger(__name__)

SYNC_SECONDS = 1.0  # a killed process loses nothing, a power failure at most this
SPENT_SECONDS = 0.2  # between two entries of what has been spent
SCHEMA = 2
SNAPSHOT_SCHEMA = 1


class Journal:
    """Results by the key of their request; in memory only where there is no file.

    Args:
        path: the file; made with its folder if it does not exist.
        identity: what all entries have in common: checkpoint, dtype, protocol.

    Attributes:
        cut: bytes of a line that was cut short, which were removed.
        damaged: lines that were passed over.

    Raises:
        UserError: a file of other identity or a newer schema, or one that cannot be read or written.
    """

    def __init__(self, path: Path | None = None, identity: Mapping[str, Any] | None = None) -> None:
        self.path, self.cut, self.damaged = path, 0, 0
        self._entries: dict[str, Kept] = {}
        self._spent: dict[str, float] = {}
        self._span: str | None = None
        self._started = self._span_written = 0.0
        self._identity: dict[str, Any] = json.loads(json.dumps(dict(identity or {})))
        self._file: int | None = None
        self._synced = 0.0
        if path is not None:
            try:
                self._open(path)
            except UserError:
                self._drop()
                raise

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def get(self, key: str) -> Result:
        """The result of a request; a score as (float, bool), a generation as a list of ids."""
        found = self._entries[key]
        return found if isinstance(found, tuple) else found.tolist()

    def add(self, results: Mapping[str, Result]) -> None:
        """Keep results; they are with the operating system when this returns.

        Raises:
            UserError: the file cannot be written; what it already has stays.
        """
        if self._file is None:
            return
        entries = [_result_entry(key, result) for key, result in results.items()]
        if self._span is not None and time.monotonic() - self._span_written >= SPENT_SECONDS:
            entries.append(self._spent_entry())
        self._append(entries)
        self._entries.update({key: kept(result) for key, result in results.items()})

    def begin(self, name: str) -> None:
        """Count the time that something takes from now on, behind what an interrupted run has spent on it."""
        self._span, self._started, self._span_written = name, time.monotonic(), 0.0

    def end(self) -> float:
        """All seconds that were spent since `begin` and before the interruptions.

        Raises:
            UserError: the file cannot be written; what it already has stays.
        """
        assert self._span is not None, "nothing was begun"
        if self._file is not None:
            self._append([self._spent_entry()])
        seconds = self._spent[self._span] = self._seconds()
        self._span = None
        return seconds

    def snapshots(self, keys: Mapping[int, str]) -> Snapshots | None:
        """Where generations that are under way are kept, beside the file, if there is one.

        Args:
            keys: of the requests that may be under way, by their numbers.
        """
        if self.path is None:
            return None
        identity = json.dumps({"schema": SNAPSHOT_SCHEMA, **self._identity}, sort_keys=True)
        return Snapshots(self.path.with_suffix(".under_way.safetensors"), identity, keys)

    def close(self) -> None:
        """Put everything on disk."""
        if self._file is None:
            return
        try:
            if self._span is not None:
                self._append([self._spent_entry()])
            os.fsync(self._file)
        finally:
            self._drop()

    def _drop(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._take(path)
            contents = self._read(path)
            if contents.is_foreign:
                self._drop()
                log.warning("%s: does not say whose requests it holds; it is now %s", path, _set_aside(path))
                self._take(path)
                contents = Contents()
            self._accept(contents, path)
        except OSError as error:
            raise self._unwritable(error) from error
        self._append([self._header()] * (1 if contents.headers else 2))

    def _take(self, path: Path) -> None:
        """Open the file for this process alone."""
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path}: the journal of finished requests is no regular file; move it away")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{path}: another run of the same checkpoint and protocol is writing it; wait for it"
            ) from None
        except OSError as error:  # a file system without locks
            log.debug("%s: no lock (%s)", path, error)

    def _read(self, path: Path) -> Contents:
        with path.open("rb") as stream:
            return read_contents(stream.read(), line_of(self._header()))

    def _accept(self, contents: Contents, path: Path) -> None:
        """Take the entries of a file if they are ours, and remove the line at its end that was cut short."""
        assert self._file is not None
        for header in contents.headers:
            _check_identity(path, header, self._identity)
        self._entries, self._spent, self.damaged = contents.results, contents.spent, contents.damaged
        if self.damaged:
            log.warning("%s: %d damaged lines are passed over; their requests run again", path, self.damaged)
        self.cut = os.fstat(self._file).st_size - contents.size
        if self.cut:
            log.warning("%s: %d bytes of a line that was cut short are removed", path, self.cut)
            os.ftruncate(self._file, contents.size)
        os.lseek(self._file, contents.size, os.SEEK_SET)

    def _header(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **self._identity}

    def _seconds(self) -> float:
        return self._spent.get(self._span or "", 0.0) + time.monotonic() - self._started

    def _spent_entry(self) -> dict[str, Any]:
        self._span_written = time.monotonic()
        return {"spent_on": self._span, "seconds": round(self._seconds(), 3)}

    def _append(self, entries: list[dict[str, Any]]) -> None:
        assert self._file is not None
        content = b"".join(line_of(entry) for entry in entries)
        start = os.lseek(self._file, 0, os.SEEK_CUR)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(self._file, view) :]
            if time.monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(self._file)
                self._synced = time.monotonic()
        except OSError as error:
            os.ftruncate(self._file, start)  # half a line is no line
            os.lseek(self._file, start, os.SEEK_SET)
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(
            f"{self.path}: the journal of finished requests cannot be written ({reason(error)}); what it has is kept. "
            "Make room or choose another --output, then give the same command again"
        )


def _result_entry(key: str, result: Result) -> dict[str, Any]:
    if isinstance(result, tuple):
        return {"key": key, "score": list(result)}
    return {"key": key, "ids": list(result)}


def _set_aside(path: Path) -> Path:
    """Give a file another name, which no other has."""
    for number in range(1, 1000):
        aside = path.with_name(f"{path.name}.unknown{'' if number == 1 else number}")
        if not aside.exists():
            return path.rename(aside)
    raise UserError(f"{path}: not a journal of finished requests; move it away")


def _check_identity(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    if found["schema"] > SCHEMA:
        raise UserError(f"{path}: schema {found['schema']} is newer than this version reads ({SCHEMA}); update gdn2")
    for name in sorted({*found, *expected} - {"schema"}):
        if found.get(name) != expected.get(name):
            raise UserError(
                f"{path}: its entries belong to another {name} ({found.get(name)!r} instead of "
                f"{expected.get(name)!r}); they are not mixed. Move it away, or use another folder"
            )
