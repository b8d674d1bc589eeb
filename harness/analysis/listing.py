"""Runs in lines: what `results list` shows of each, and which of them a person means."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.selection import FoundRun
from harness.records.added import UNKNOWN
from harness.records.record import RunRecord
from harness.records.samples import FILE_NAME, LM_EVAL_FILES

DIGITS = 8
"""Of a protocol's hash that are shown, and in the names of folders."""


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """A run in a line.

    Attributes:
        run_id: as in the record.
        name: of the model.
        suite: as in the record.
        date: when it began, in UTC, without the time of day.
        cells: how many there are.
        samples: documents that were scored, of all cells.
        protocol: the first digits of the protocol's hash.
        dtype: what the model ran in.
        machine: the GPU, or the processor of a run without one.
        has_samples: whether its samples lie beside the record.
        added: where it comes from, if no run of ours made it.
        folder: of the record.
    """

    run_id: str
    name: str
    suite: str
    date: str
    cells: int
    samples: int
    protocol: str
    dtype: str
    machine: str
    has_samples: bool
    added: str | None
    folder: str


def line_of(run: FoundRun) -> RunLine:
    """Make the line of a run."""
    record = run.record
    return RunLine(
        run_id=record.run_id,
        name=record.name,
        suite=record.suite,
        date=record.started[:10],
        cells=len(record.cells),
        samples=sum(max((score.n for score in cell.scores.values()), default=0) for cell in record.cells),
        protocol=record.protocol_hash[:DIGITS],
        dtype=record.protocol.dtype,
        machine=machine_of(record),
        has_samples=has_samples(run.folder),
        added=None if record.added is None else record.added.remark,
        folder=str(run.folder),
    )


def matching(runs: Sequence[FoundRun], models: Sequence[str] = (), suite: str | None = None) -> list[FoundRun]:
    """The runs of some models and of a suite.

    Args:
        runs: where to look.
        models: names or patterns with `*`; by default all.
        suite: its name; by default all.
    """
    return [
        run
        for run in runs
        if (not models or any(fnmatch.fnmatchcase(run.record.name, model) for model in models))
        and suite in (None, run.record.suite)
    ]


def has_samples(folder: Path) -> bool:
    """Whether the samples of a run lie beside its record."""
    return (folder / FILE_NAME).is_file() or next(folder.glob(LM_EVAL_FILES), None) is not None


def machine_of(record: RunRecord) -> str:
    """The GPU of a run on one, else the processor."""
    machine, device = record.machine, record.model.device
    return machine.gpu if machine.gpu and device not in ("cpu", UNKNOWN) else machine.cpu
