"""Generations that are under way, on disk now and then: a run that is killed goes on in the middle of its texts.

One safetensors file beside the journal, one a job where workers generate: the states and outputs of all rows, and in
its metadata the keys of their requests, the ids so far, and whose they are. It is written by a thread, so seldom that
copying and writing take at most a fiftieth of the time, and replaced in one step.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gdn2 import RecurrentState
from harness.decoder import Ready

log = logging.getLogger(__name__)

SHARE = 0.02  # of the time, spent on copying and writing
LEAST_SECONDS = 0.25  # between two
SECONDS_A_BYTE = 1e-9  # of writing, until it has been measured
MOST_BYTES = 16 << 30
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
        self._last, self._seconds_a_byte = time.monotonic(), SECONDS_A_BYTE
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
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt", device=str(device)) as file:
                about = file.metadata() or {}
                if about.get(IDENTITY) != self.identity:
                    return UnderWay()
                rows, finished = json.loads(about[ROWS]), json.loads(about[FINISHED])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            return self._found(rows, finished, tensors, wanted)
        except FileNotFoundError:
            return UnderWay()
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            log.warning("%s: not readable (%s); the texts in it are generated again", self.path, error)
            return UnderWay()

    def _found(
        self, rows: list[Any], finished: dict[str, list[int]], tensors: dict[str, Tensor], wanted: Container[int]
    ) -> UnderWay:
        number_of = {key: number for number, key in self.keys.items() if number in wanted}
        found = UnderWay(finished={number_of[key]: ids for key, ids in finished.items() if key in number_of})
        numbers = [number_of.get(key, -1) for key, _ in rows]
        found.ids = {number: ids for number, (_, ids) in zip(numbers, rows, strict=True) if number >= 0}
        if found.ids:
            hidden = tensors.pop(HIDDEN)
            ready = Ready(numbers, hidden, RecurrentState.from_tensors(tensors))
            found.ready = ready.select(ready.alive)
        return found

    def save_if_due(self, rows: list[Ready], ids: Mapping[int, list[int]]) -> None:
        """Keep the rows that are not finished, if the last time is long enough ago. A disk that cannot take them is
        no reason to stop."""
        passed = time.monotonic() - self._last
        share, least_seconds = self.pace
        if passed < least_seconds or (self._writer and self._writer.is_alive()):
            return
        size = sum(part.state.num_bytes * len(part.alive) // max(len(part.requests), 1) for part in rows)
        if size > MOST_BYTES or passed < size * self._seconds_a_byte / share:
            return
        started = time.monotonic()
        alive = [part.select(part.alive) for part in rows if part.alive]  # copies: states may be written to later
        tensors: dict[str, Tensor] = {}
        if alive:
            joined = Ready.join(alive)
            tensors = {HIDDEN: joined.hidden, **joined.state.to_tensors()}
            tensors = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
        numbers = [number for part in alive for number in part.requests]
        about = {
            IDENTITY: self.identity,
            ROWS: json.dumps([[self.keys[number], ids.get(number, [])] for number in numbers]),
            FINISHED: json.dumps({self.keys[number]: done for number, done in self.finished.items()}),
        }
        self._writer = threading.Thread(target=self._write, args=(tensors, about, started), daemon=True)
        self._writer.start()

    def wait(self) -> None:
        """Until what is being written is on disk."""
        if self._writer:
            self._writer.join()

    def clear(self) -> None:
        """Nothing is under way any more, in no part either."""
        self.wait()
        with contextlib.suppress(OSError):
            self.path.unlink()
        for file in self.path.parent.glob(f"{glob.escape(self.path.stem)}.*.safetensors"):
            with contextlib.suppress(OSError):
                file.unlink()

    def _write(self, tensors: dict[str, Tensor], about: dict[str, str], started: float) -> None:
        from safetensors.torch import save_file

        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            save_file(tensors, temporary, metadata=about)
            os.replace(temporary, self.path)
        except Exception as error:  # whatever it is: what is not kept is generated again
            log.warning("%s: texts that are under way are not kept (%s)", self.path, error)
            with contextlib.suppress(OSError):
                temporary.unlink()
        size = sum(tensor.nbytes for tensor in tensors.values())
        self._last = time.monotonic()
        self._seconds_a_byte = (self._last - started) / max(size, 1)
