"""Generations that are under way, on disk now and then: a run that is killed goes on in the middle of its texts.

One safetensors file beside the journal: the states and outputs of all rows, and in its metadata the keys of their
requests, the ids so far, and whose they are. It is written so seldom that writing takes at most a fiftieth of the
time, and replaced in one step.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from gdn2 import RecurrentState
from harness.decoder import Ready

log = logging.getLogger(__name__)

SHARE = 0.02  # of the time, spent on writing
FIRST_SECONDS = 1.0  # before the first one, and between two at least
MOST_BYTES = 16 << 30
HIDDEN, ROWS, IDENTITY = "hidden", "rows", "identity"


@dataclass(slots=True)
class UnderWay:
    """Rows that were under way: `ready.requests` are indices into `keys` and `ids`."""

    keys: list[str]
    ids: list[list[int]]
    ready: Ready


class Snapshots:
    """Keeps the generations of a call that are under way.

    Args:
        path: the file.
        identity: whose they are: checkpoint, dtype, protocol.
        keys: of the requests that may be under way, by their numbers.
    """

    def __init__(self, path: Path, identity: str, keys: Mapping[int, str]) -> None:
        self.path, self.identity, self.keys = path, identity, keys
        self._due = time.monotonic() + FIRST_SECONDS

    def load(self, device: torch.device) -> UnderWay | None:
        """What was saved, or None; a file that cannot be read, or is another's, counts as not there."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt", device=str(device)) as file:
                about = file.metadata() or {}
                if about.get(IDENTITY) != self.identity:
                    return None
                rows = json.loads(about[ROWS])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            hidden = tensors.pop(HIDDEN)
            state = RecurrentState.from_tensors(tensors)
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            log.warning("%s: not readable (%s); the texts in it are generated again", self.path, error)
            return None
        return UnderWay(
            [key for key, _ in rows], [ids for _, ids in rows], Ready(list(range(len(rows))), hidden, state)
        )

    def save_if_due(self, rows: list[Ready], ids: Mapping[int, list[int]]) -> None:
        """Keep the rows that are not finished, if the last time is long enough ago. A disk that cannot take them is
        no reason to stop."""
        if time.monotonic() < self._due:
            return
        started = time.monotonic()
        alive = [part.select(part.alive) for part in rows if part.alive]
        if alive and sum(part.state.num_bytes for part in alive) <= MOST_BYTES:
            self._write(Ready.join(alive), ids)
        self._due = time.monotonic() + max(FIRST_SECONDS, (time.monotonic() - started) / SHARE)

    def clear(self) -> None:
        """Nothing is under way any more."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    def _write(self, rows: Ready, ids: Mapping[int, list[int]]) -> None:
        from safetensors.torch import save_file

        about = {IDENTITY: self.identity, ROWS: json.dumps([[self.keys[i], ids.get(i, [])] for i in rows.requests])}
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            save_file({HIDDEN: rows.hidden.contiguous(), **rows.state.to_tensors()}, temporary, metadata=about)
            os.replace(temporary, self.path)
        except (OSError, RuntimeError) as error:
            log.warning("%s: texts that are under way are not kept (%s)", self.path, error)
            with contextlib.suppress(OSError):
                temporary.unlink()
