"""Finished requests, on disk at once: what the same command finds after it was killed.

One file, one line an entry: eight hex digits of a CRC-32, a space, JSON. The first line says whose entries these are;
a file of another checkpoint or protocol is refused, never mixed. A line that a kill or a full disk cut short, and
what stands behind it, is cut off when the file is opened.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.engine.snapshot import Snapshots
from harness.errors import UserError

log = logging.getLogger(__name__)

SYNC_SECONDS = 1.0  # a killed process loses nothing, a power failure at most this
SCHEMA = 1


class Journal:
    """Results by the key of their request; in memory only where there is no file.

    Args:
        path: the file; made with its folder if it does not exist.
        identity: what all entries have in common: checkpoint, dtype, protocol.

    Attributes:
        cut: bytes of damaged lines that were removed.

    Raises:
        UserError: a file of other identity or a newer schema, or one that cannot be read or written.
    """

    def __init__(self, path: Path | None = None, identity: Mapping[str, Any] | None = None) -> None:
        self.path, self.cut = path, 0
        self._entries: dict[str, Any] = {}
        self._identity = json.dumps({"schema": SCHEMA, **(identity or {})}, sort_keys=True)
        self._file: int | None = None
        self._synced = 0.0
        if path is not None:
            try:
                self._open(path, {"schema": SCHEMA, **(identity or {})})
            except UserError:
                self._drop()
                raise

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def get(self, key: str) -> Any:
        """The result of a request; a score as (float, bool), a generation as a list of ids."""
        return self._entries[key]

    def add(self, results: Mapping[str, Any]) -> None:
        """Keep results; they are with the operating system when this returns.

        Raises:
            UserError: the file cannot be written; what it already has stays.
        """
        if self._file is None:
            return
        self._append([[key, result] for key, result in results.items()])
        self._entries.update(results)

    def snapshots(self, keys: Mapping[int, str]) -> Snapshots | None:
        """Where generations that are under way are kept: beside the file, if there is one.

        The requests have these keys by their numbers.
        """
        if self.path is None:
            return None
        return Snapshots(self.path.with_suffix(".under_way.safetensors"), self._identity, keys)

    def close(self) -> None:
        """Everything on disk."""
        if self._file is not None:
            os.fsync(self._file)
            self._drop()

    def _drop(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self, path: Path, identity: dict[str, Any]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._lock(path)
            with path.open("rb") as stream:
                good = self._read(stream.read(), path, identity)
            size = os.fstat(self._file).st_size
            if good < size:
                self.cut = size - good
                log.warning("%s: %d bytes of a line that was cut short are removed", path, self.cut)
                os.ftruncate(self._file, good)
            os.lseek(self._file, good, os.SEEK_SET)
        except OSError as error:
            raise self._unwritable(error) from error
        if not good:
            self._append([identity])

    def _lock(self, path: Path) -> None:
        assert self._file is not None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{path}: another run of the same checkpoint and protocol is writing it; wait for it"
            ) from None
        except OSError as error:  # a file system without locks
            log.debug("%s: no lock (%s)", path, error)

    def _read(self, content: bytes, path: Path, identity: Mapping[str, Any]) -> int:
        """Take the entries of intact lines; returns the bytes that they have."""
        good = 0
        for line in content.splitlines(keepends=True):
            entry = _parse(line)
            if entry is None:
                break
            if not good:
                _check_identity(path, entry, identity)
            elif isinstance(entry, list) and len(entry) == 2:
                key, result = entry
                self._entries[key] = tuple(result) if result and isinstance(result[-1], bool) else result
            good += len(line)
        return good

    def _append(self, entries: list[Any]) -> None:
        assert self._file is not None
        content = b"".join(_line(entry) for entry in entries)
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
            f"{self.path}: the journal of finished requests cannot be written ({error.strerror}); what it has is kept. "
            "Make room or choose another --output, then give the same command again"
        )


def _line(entry: Any) -> bytes:
    text = json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parse(line: bytes) -> Any:
    """The entry of a line, or None if the line is damaged."""
    if len(line) < 10 or not line.endswith(b"\n") or line[8:9] != b" ":
        return None
    text = line[9:-1]
    try:
        return json.loads(text) if int(line[:8], 16) == zlib.crc32(text) else None
    except ValueError:
        return None


def _check_identity(path: Path, found: Any, expected: Mapping[str, Any]) -> None:
    if not isinstance(found, dict) or not isinstance(found.get("schema"), int):
        raise UserError(f"{path}: not a journal of finished requests; move it away")
    if found["schema"] > SCHEMA:
        raise UserError(f"{path}: schema {found['schema']} is newer than this version reads ({SCHEMA}); update gdn2")
    expected = json.loads(json.dumps(expected))
    for name in sorted({*found, *expected}):
        if found.get(name) != expected.get(name):
            raise UserError(
                f"{path}: its entries belong to another {name} ({found.get(name)!r} instead of "
                f"{expected.get(name)!r}); they are not mixed. Move it away, or use another folder"
            )
