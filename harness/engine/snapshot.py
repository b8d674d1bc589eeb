"""Generations that are under way, on disk now and then: a run that is killed goes on in the middle of its texts.

A safetensors file beside the journal, one a job where workers generate: the states and outputs of all rows, and in its
metadata the keys of their requests, the ids so far, and whose they are. Prompts that were read since then are in files
of their own, so that each is written once before it goes on. All are written by a thread, so seldom that copying and
writing take at most a fiftieth of the time, and appear in one step.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from basis.files import replacing
from gdn2 import RecurrentState
from harness.engine.decoder import Ready

log = logging.getLogger(__name__)

SHARE = 0.02  # of the time, spent on copying and writing
LEAST_SECONDS = 0.25  # between two
SECONDS_A_BYTE = 1e-9  # of writing, until it has been measured
LEAST_BYTES, MOST_BYTES = 4 << 20, 16 << 30  # less says nothing about the speed, more is not kept
HIDDEN, ROWS, FINISHED, IDENTITY = "hidden", "rows", "finished", "identity"


@dataclass(slots=True)
class UnderWay:
    """What was under way.

    Attributes:
        ready: the rows, if there are any, by the numbers of their requests.
        ids: generated so far, of each of them.
        finished: results that nobody has been told yet.
    """

    ready: Ready | None = None
    ids: dict[int, list[int]] = field(default_factory=dict)
    finished: dict[int, list[int]] = field(default_factory=dict)


class Snapshots:
    """Keeps the generations of a call that are under way.

    Args:
        path: the file.
        identity: whose they are: checkpoint, dtype, protocol.
        keys: of the requests that may be under way, by their numbers.
        pace: (SHARE, LEAST_SECONDS), here and in the process that it is sent to.

    Attributes:
        finished: results to keep as well, because they are not in a journal yet.
    """

    def __init__(
        self, path: Path, identity: str, keys: Mapping[int, str], pace: tuple[float, float] | None = None
    ) -> None:
        self.path, self.identity, self.keys = path, identity, dict(keys)
        self.pace = pace or (SHARE, LEAST_SECONDS)
        self.finished: Mapping[int, list[int]] = {}
        self._last = self._last_whole = time.monotonic()
        self._seconds_a_byte = SECONDS_A_BYTE
        self._kept: set[int] = set()
        self._writer: threading.Thread | None = None

    def part(self, numbers: list[int]) -> Snapshots:
        """Those of some of the requests, in a file of their own."""
        keys = {number: self.keys[number] for number in numbers}
        name = hashlib.sha256("".join(keys.values()).encode()).hexdigest()[:16]
        return Snapshots(self.path.with_name(f"{self.path.stem}.{name}.safetensors"), self.identity, keys, self.pace)

    def __reduce__(self) -> tuple[Any, ...]:
        return Snapshots, (self.path, self.identity, self.keys, self.pace)

    def load(self, device: torch.device, wanted: Container[int]) -> UnderWay:
        """What was saved of the wanted requests; a file that cannot be read, or is another's, counts as empty."""
        found, parts = UnderWay(), []
        for file in [self.path, *self._additions()]:
            one = self._load(file, device, wanted)
            found.finished |= one.finished
            if one.ready is not None:
                new = one.ready.select(
                    [row for row, number in enumerate(one.ready.requests) if number not in found.ids]
                )
                parts += [new] if new.requests else []
                found.ids = {**one.ids, **found.ids}
        found.ready = Ready.join(parts) if parts else None
        return found

    def _additions(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{glob.escape(self.path.stem)}-*.safetensors"))

    def _load(self, path: Path, device: torch.device, wanted: Container[int]) -> UnderWay:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                about = file.metadata() or {}
                if about.get(IDENTITY) != self.identity:
                    return UnderWay()
                rows, finished = json.loads(about[ROWS]), json.loads(about[FINISHED])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            return self._found(rows, finished, tensors, wanted)
        except FileNotFoundError:
            return UnderWay()
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            log.warning("%s: not readable (%s); the texts in it are generated again", path, error)
            return UnderWay()

    def _found(
        self, rows: list[Any], finished: dict[str, list[int]], tensors: dict[str, Tensor], wanted: Container[int]
    ) -> UnderWay:
        _check(rows, finished, tensors)
        number_of = {key: number for number, key in self.keys.items() if number in wanted}
        found = UnderWay(finished={number_of[key]: ids for key, ids in finished.items() if key in number_of})
        numbers = [number_of.get(key, -1) for key, _ in rows]
        found.ids = {number: ids for number, (_, ids) in zip(numbers, rows, strict=True) if number >= 0}
        if found.ids:
            hidden = tensors.pop(HIDDEN)
            ready = Ready.of(numbers, hidden, RecurrentState.from_tensors(tensors))
            found.ready = ready.select(ready.alive)
        return found

    def save_if_due(self, rows: list[Ready], ids: Mapping[int, list[int]]) -> None:
        """Keep the rows that are not finished, if the last time is long enough ago.

        A disk that cannot take them is no reason to stop.
        """
        now = time.monotonic()
        if now - self._last < self.pace[1] or (self._writer and self._writer.is_alive()):
            return
        alive = [(part, part.alive) for part in rows if part.alive]
        goes_on = any(ids.get(part.requests[row]) for part, chosen in alive for row in chosen) or self.finished
        if goes_on and self._is_due(alive, now - self._last_whole):
            self._save(alive, ids, self.path, self._additions())
            self._last_whole = now
            return
        new = [
            (part, [row for row in chosen if not ids.get(part.requests[row]) and part.requests[row] not in self._kept])
            for part, chosen in alive
        ]
        new = [(part, chosen) for part, chosen in new if chosen]
        if new and self._is_due(new, now - self._last):
            self._save(new, ids, self.path.with_name(f"{self.path.stem}-{time.time_ns()}.safetensors"), [])

    def _is_due(self, chosen: list[tuple[Ready, list[int]]], passed: float) -> bool:
        states = Counter(id(part.places[row][0]) for part, rows in chosen for row in rows)
        found = {id(part.places[row][0]): part.places[row][0] for part, rows in chosen for row in rows}
        size = sum(state.num_bytes * states[key] // state.batch_size for key, state in found.items())
        return size <= MOST_BYTES and passed >= size * self._seconds_a_byte / self.pace[0]

    def _save(
        self, chosen: list[tuple[Ready, list[int]]], ids: Mapping[int, list[int]], path: Path, instead_of: list[Path]
    ) -> None:
        started = time.monotonic()
        tensors: dict[str, Tensor] = {}
        numbers = [part.requests[row] for part, rows in chosen for row in rows]
        if chosen:
            joined = Ready.join([part.select(rows) for part, rows in chosen])
            state = RecurrentState.gather(joined.places, device=torch.device("cpu"))  # copies: steps overwrite states
            tensors = {HIDDEN: joined.hidden.contiguous().cpu(), **state.to_tensors()}
        self._kept.update(numbers)
        about = {
            IDENTITY: self.identity,
            ROWS: json.dumps([[self.keys[number], ids.get(number, [])] for number in numbers]),
            FINISHED: json.dumps({self.keys[number]: done for number, done in self.finished.items()}),
        }
        arguments = (tensors, about, path, instead_of, time.monotonic() - started)
        self._writer = threading.Thread(target=self._write, args=arguments, daemon=True)
        self._writer.start()

    def wait(self) -> None:
        """Until what is being written is on disk."""
        if self._writer:
            self._writer.join()

    def clear(self) -> None:
        """Nothing is under way any more, in no part either."""
        self.wait()
        parts = self.path.parent.glob(f"{glob.escape(self.path.stem)}.*.safetensors")
        for file in [self.path, *self._additions(), *parts]:
            with contextlib.suppress(OSError):
                file.unlink()

    def _write(
        self, tensors: dict[str, Tensor], about: dict[str, str], path: Path, instead_of: list[Path], seconds: float
    ) -> None:
        """Write a file in place of others; `seconds` it took to copy what is in it."""
        from safetensors.torch import save_file

        started = time.thread_time()  # of this thread: others do not wait for the disk
        try:
            with replacing(path, sync=False) as temporary:
                save_file(tensors, temporary, metadata=about)
            for file in instead_of:
                file.unlink()
        except Exception as error:  # whatever it is: what is not kept is generated again
            log.warning("%s: texts that are under way are not kept (%s)", path, error)
        size = sum(tensor.nbytes for tensor in tensors.values())
        self._last = time.monotonic()
        self._seconds_a_byte = (seconds + time.thread_time() - started) / max(size, LEAST_BYTES)


def _check(rows: Any, finished: Any, tensors: Mapping[str, Tensor]) -> None:
    """See that the parts of a file are what `_save` writes and belong together. Raises ValueError."""
    pairs = [*rows, *([key, ids] for key, ids in finished.items())] if isinstance(finished, dict) else [None]
    for pair in pairs:
        key, ids = pair if isinstance(pair, list) and len(pair) == 2 else (None, None)
        if not isinstance(key, str) or not isinstance(ids, list) or not all(type(item) is int for item in ids):
            raise ValueError("its texts are not lists of ids")
    if rows and any(len(tensor) != len(rows) for tensor in tensors.values()):
        raise ValueError("its states are not one a text")
