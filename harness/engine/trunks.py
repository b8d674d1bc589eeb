"""States of prefixes that many requests begin with: in memory while they are used, long ones on disk as well."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from basis.files import replacing
from gdn2 import RecurrentState
from gdn2.checkpoints.tensors import write_tensors

if TYPE_CHECKING:
    from harness.engine.reader import Reader

log = logging.getLogger(__name__)

IN_MEMORY = 8  # states of one row, or more of small models
IN_MEMORY_BYTES = 128 << 20  # up to which there may be more: units leave a text at hundreds of places, in any order
ON_DISK_TOKENS = 2048  # fewer are read again sooner than a state is loaded
Runs = Sequence[Sequence[int]]


class Trunks:
    """States of one row behind runs of tokens.

    Args:
        folder: keeps states between calls and runs; None: none are kept.
        identity: what the states depend on besides the tokens: checkpoint, dtype, version.
        budget: bytes on disk; the states that were unused the longest make room.
    """

    def __init__(self, folder: Path | None = None, identity: str = "", budget: int = 4 << 30) -> None:
        self.folder, self.identity, self.budget = folder, identity, budget
        self._states: OrderedDict[str, RecurrentState] = OrderedDict()
        self._num_bytes = 0

    def state(self, trunk: Runs, reader: Reader) -> RecurrentState | None:
        """The state behind the runs of a trunk, read by `reader` unless it is known; None behind none.

        It is always read run after run, one row at a time, so it does not depend on who asks first.
        """
        if not trunk:
            return None
        keys, known, state = self._keys(trunk), len(trunk), None
        while known and (state := self._kept(keys[known - 1], reader)) is None:
            known -= 1
        written = _places_on_disk(trunk)
        for at in range(known, len(trunk)):  # no recursion: needles at many depths of one text make thousands of runs
            with torch.inference_mode():
                behind = None if state is None else [(state, 0)]
                state = reader.read([list(trunk[at])], behind, _nothing, keep=True)
            assert state is not None
            if at in written:
                self._save(keys[at], state)
            self._remember(keys[at], state)
        return state

    def _kept(self, key: str, reader: Reader) -> RecurrentState | None:
        """A state that is in memory or on disk."""
        state = self._states.get(key)
        if state is None:
            state = self._load(key, reader)
        if state is not None:
            self._remember(key, state)
        return state

    def _remember(self, key: str, state: RecurrentState) -> None:
        if key not in self._states:
            self._num_bytes += state.num_bytes
        self._states[key] = state
        self._states.move_to_end(key)
        while len(self._states) > IN_MEMORY and self._num_bytes > IN_MEMORY_BYTES:
            self._num_bytes -= self._states.popitem(last=False)[1].num_bytes

    def _keys(self, trunk: Runs) -> list[str]:
        """The names of the states behind each of its runs."""
        digest, keys = hashlib.sha256(self.identity.encode()), []
        for run in trunk:
            digest.update(len(run).to_bytes(8, "big"))
            digest.update(np.asarray(run, dtype=">u4").tobytes())
            keys.append(digest.hexdigest())
        return keys

    def _load(self, key: str, reader: Reader) -> RecurrentState | None:
        """A state from disk; a damaged file counts as not there."""
        if self.folder is None or not (file := self.folder / f"{key}.safetensors").is_file():
            return None
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            state = RecurrentState.from_tensors(load_file(file, device=str(reader.model.device)))
            file.touch()
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            log.warning("%s: not readable (%s); its prefix is read again", file, error)
            return None
        return state

    def _save(self, key: str, state: RecurrentState) -> None:
        """Keep a state on disk, within the budget; a disk that cannot take it is no reason to stop."""
        if self.folder is None or state.num_bytes > self.budget:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_room(state.num_bytes)
            with replacing(self.folder / f"{key}.safetensors", sync=False) as temporary:
                write_tensors(state.to_tensors(), temporary)
        except (OSError, RuntimeError) as error:
            log.warning("%s: a state is not kept there (%s)", self.folder, error)

    def _make_room(self, needed: int) -> None:
        assert self.folder is not None
        files = sorted(self.folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)
        used = sum(file.stat().st_size for file in files)
        while files and used + needed > self.budget:
            oldest = files.pop(0)
            used -= oldest.stat().st_size
            oldest.unlink()


def _places_on_disk(trunk: Runs) -> set[int]:
    """The runs behind which a state is worth a file: where enough tokens lie between it and the one before.

    So short runs, as many as needles cut a text into, do not write a state of the whole model each.
    """
    places, between = set(), 0
    for at, run in enumerate(trunk):
        between += len(run)
        if between >= ON_DISK_TOKENS:
            places.add(at)
            between = 0
    return places


def _nothing(*_: object) -> None:
    """Nothing is scored in a trunk."""
