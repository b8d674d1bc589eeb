"""Several checkpoints, one after the other: memory is free before the next, and one that fails loses no other."""

from __future__ import annotations

import contextlib
import gc
import json
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from basis.files import load_json, write_atomically
from gdn2.checkpoints import fingerprint
from harness.errors import UserError
from harness.records.finished import UNFINISHED
from harness.records.protocol import digest
from harness.records.record import FILE_NAME, read_record
from harness.records.store import ensure_folder
from harness.runs.listener import Silence
from harness.runs.options import RunOptions
from harness.runs.resolve import resolve_run, with_native_checkpoint
from harness.runs.runner import RunResult, protocol_of

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What became of one checkpoint.

    Attributes:
        checkpoint: as typed.
        result: None where it failed.
        problem: why it failed, in one line.
        trace: where, for what is no mistake that a user can mend.
    """

    checkpoint: str
    result: T | None
    problem: str | None = None
    trace: str | None = None


class Together:
    """The checkpoints of one command that are finished, kept until all are: the same command takes them up.

    Args:
        all_options: of each checkpoint.
    """

    def __init__(self, all_options: Sequence[RunOptions]) -> None:
        first = all_options[0]
        key = digest([list(options.command) for options in all_options])[:16]
        self._file = first.output / UNFINISHED / f"{key}.json"

    def find(self, options: RunOptions) -> RunResult | None:
        """The run of a checkpoint that an interrupted command had finished.

        None where there is none, or where checkpoint or protocol are no longer what they were.
        """
        folder = self._finished().get(options.checkpoint)
        if folder is None:
            return None
        try:
            record = read_record(Path(folder) / FILE_NAME)
        except UserError:  # removed since
            return None
        run = with_native_checkpoint(resolve_run(options), Silence())
        is_same = fingerprint(run.checkpoint) == record.model.checkpoint_sha256
        if not is_same or protocol_of(run, record.model).hash != record.protocol_hash:
            return None
        return RunResult(record, Path(folder))

    def keep(self, options: RunOptions, done: RunResult) -> None:
        """Keep that a checkpoint is finished.

        Raises:
            UserError: the disk cannot take it.
        """
        ensure_folder(self._file.parent)
        write_atomically(self._file, json.dumps({**self._finished(), options.checkpoint: str(done.folder)}))

    def clear(self) -> None:
        """Forget everything: all are finished."""
        self._file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else is unfinished
            self._file.parent.rmdir()

    def _finished(self) -> dict[str, str]:
        try:
            found = load_json(self._file)
        except UserError:
            return {}
        return {str(name): str(folder) for name, folder in found.items()} if isinstance(found, dict) else {}


def for_each(all_options: Sequence[RunOptions], act: Callable[[RunOptions], T]) -> list[Outcome[T]]:
    """Do something with each checkpoint's options, in their order; memory is free in between.

    An error that any checkpoint ends in is kept as text, since an exception holds on to the model that it came from.
    An interruption ends all.

    Args:
        all_options: of each checkpoint.
        act: what is done.
    """
    return [_outcome(options, act) for options in all_options]


def _outcome(options: RunOptions, act: Callable[[RunOptions], T]) -> Outcome[T]:
    try:
        return Outcome(options.checkpoint, act(options))
    except UserError as error:
        return Outcome(options.checkpoint, None, " ".join(str(error).split()))
    except Exception as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        return Outcome(options.checkpoint, None, problem, traceback.format_exc())
    finally:
        _free()


def _free() -> None:
    """Give back what the last model took, and measure peaks of memory anew."""
    import torch

    from harness.engine import resident

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    resident.begin_anew()
