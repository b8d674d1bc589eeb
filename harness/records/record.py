"""What a run leaves behind for tables: one record, written once, refused by readers that are older than it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from basis.files import load_json
from harness.errors import UserError
from harness.records.added import Added
from harness.records.fields import Amount, Count, FieldError, Name, read_fields
from harness.records.former import PRESENT_FORM, lift_record
from harness.records.model_info import Machine, ModelInfo
from harness.records.protocol import Protocol, TaskProtocol, digest
from tasks.families import unit_of
from tasks.metrics import Unit

SCHEMA_VERSION = 5
FILE_NAME = "record.json"


@dataclass(frozen=True, kw_only=True)
class Score:
    """One metric of one cell.

    Attributes:
        value: in its unit; a share lies between 0 and 1.
        unit: what the number is.
        n: documents that were scored.
        unscored: documents that could not be.
        low: lower end of the 95 % interval; None where none is computed.
        high: upper end.
        higher_is_better: which way is better.
    """

    value: float
    unit: Unit
    n: Count
    unscored: Count = 0
    low: float | None = None
    high: float | None = None
    higher_is_better: bool = True


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One task at one length.

    Attributes:
        protocol: the task as it was run: what its numbers mean.
        context_prefix: the name of what came before every context.
        lm_eval_name: the task's name in lm-eval's files.
        scores: by metric.
        mean_fill: mean of (prompt + generated tokens) / length.
        min_fill: the least of them.
        documents: of a task over a data set: its `rows`, those `dropped`, `cut`, and `without_answer` after the cut; of
            a task with generated answers: `empty_answers`, and questions that are answered without reading
            (`given_away`), where any one reference scores; of any task: continuations that were encoded apart from
            their context (`encoded_apart`).
        truncated: requests that lost their beginning; None, here and below, in records that were added and do not say.
        tokens: that the model read and generated, before interruptions too.
        shared_tokens: that requests had in common with others and that were not read again.
        seconds: that it took, before interruptions too.
        peak_memory_mib: of the GPU's allocator, or of the process on a CPU, while the task ran; None where unknown.
        together: lm-eval's names of tasks that were run in one call with it, because they begin alike: seconds and
            tokens of the call are divided among them by the tokens of each, and the peak of memory is the call's.
    """

    protocol: TaskProtocol
    context_prefix: str
    lm_eval_name: str
    scores: Mapping[str, Score] = field(default_factory=dict)
    mean_fill: Amount | None = None
    min_fill: Amount | None = None
    documents: Mapping[str, Count] = field(default_factory=dict)
    truncated: Count | None = 0
    tokens: Count | None = 0
    shared_tokens: Count | None = 0
    seconds: Amount | None = 0.0
    peak_memory_mib: Amount | None = None
    together: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "protocol": self.protocol.as_dict()}


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run of one model.

    Attributes:
        run_id: the model's folder of results and the run's in it.
        name: the model's in tables.
        suite: as in the protocol.
        protocol: all that fixes the numbers, apart from the model.
        protocol_hash: SHA-256 of the protocol, as it was when the run began.
        model: what was run.
        cells: one a task and length.
        command: the arguments as typed, without --output: where results went says nothing about them.
        started: UTC, ISO 8601.
        finished: likewise.
        seconds: from start to finish of the process that finished it; None where a record that was added does not say.
        peak_memory_mib: the largest resident size of that process; None likewise.
        machine: where it ran.
        packages: versions.
        git_commit: of the code that ran, where that is known.
        git_dirty: whether files differed from it.
        added: where it comes from, if no run of ours made it.
        schema: version of this format.
    """

    run_id: Name
    name: Name
    suite: str
    protocol: Protocol
    protocol_hash: Name
    model: ModelInfo
    cells: tuple[Cell, ...]
    command: tuple[str, ...]
    started: str
    finished: str
    seconds: Amount | None
    peak_memory_mib: Amount | None
    machine: Machine
    packages: Mapping[str, str]
    git_commit: str | None
    git_dirty: bool | None
    added: Added | None = None
    schema: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """The text of its file."""
        plain = asdict(self) | {
            "protocol": self.protocol.as_dict(),
            "model": self.model.as_dict(),
            "cells": [cell.as_dict() for cell in self.cells],
        }
        if self.added is None:
            del plain["added"]
        return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"

    @property
    def identity(self) -> str:
        """What tells models of one name apart: the checkpoint's fingerprint, or what lm-eval was given."""
        if self.added is None:
            return self.model.checkpoint_sha256
        return digest([self.added.model, self.added.model_args, self.model.source])


def read_record(path: Path) -> RunRecord:
    """Read a record of this or an earlier schema.

    Raises:
        UserError: no regular file, not JSON, a newer schema, or a field that is missing, unknown, of another type or
            out of its bounds; one line that names the file and the field.
    """
    raw = load_json(path)
    try:
        record = read_fields(RunRecord, _in_this_schema(raw))
        for position, cell in enumerate(record.cells):
            check_cell(cell, f"cells[{position}]")
    except FieldError as error:
        way_out = "update gdn2" if isinstance(error, NewerSchema) else "remove the record or restore it"
        raise UserError(f"{path}: {error}; {way_out}") from error
    return record


class NewerSchema(FieldError):
    """A record of a schema that is newer than this code."""


def _in_this_schema(raw: Any) -> Any:
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if schema is None:
        raise FieldError("", "field 'schema' is missing; this is not a record of run_eval.py")
    if type(schema) is not int or schema < 1:
        raise FieldError("schema", f"must be a whole number from 1, got {json.dumps(schema)[:60]}")
    if schema > SCHEMA_VERSION:
        raise NewerSchema("", f"schema {schema} is newer than this version reads ({SCHEMA_VERSION})")
    return lift_record(raw, SCHEMA_VERSION) if schema < PRESENT_FORM else raw | {"schema": SCHEMA_VERSION}


def read_cell(raw: Any) -> Cell:
    """Make a cell of its JSON.

    Raises:
        FieldError: a field that is missing, unknown, of another type or out of its bounds.
    """
    cell = read_fields(Cell, raw)
    check_cell(cell, "")
    return cell


def check_cell(cell: Cell, trail: str) -> None:
    """See that every score of a cell can be one of its unit.

    Raises:
        FieldError: as `check_score`.
    """
    for metric, score in cell.scores.items():
        check_score(metric, score, f"{trail}.scores.{metric}" if trail else f"scores.{metric}")


def check_score(metric: str, score: Score, trail: str) -> None:
    """See that a score can be one of its unit.

    Args:
        metric: its name.
        score: what is looked at.
        trail: where it stands, for messages.

    Raises:
        FieldError: another unit than the metric's, no finite number, a share outside 0 and 1, a perplexity or bits
            below 0, or an interval with one end or with its ends exchanged.
    """
    if (unit := unit_of(metric)) not in ("number", score.unit):
        raise FieldError(f"{trail}.unit", f"{metric} is in the unit {unit}, got {score.unit}")
    for name, value in (("value", score.value), ("low", score.low), ("high", score.high)):
        if value is None:
            continue
        if not math.isfinite(value):
            raise FieldError(f"{trail}.{name}", f"must be a finite number, got {value!r}")
        if score.unit == "share" and not 0 <= value <= 1:
            raise FieldError(f"{trail}.{name}", f"a share lies between 0 and 1, got {value!r}")
        if name == "value" and score.unit in ("perplexity", "bits") and value < 0:
            raise FieldError(f"{trail}.{name}", f"must be at least 0, got {value!r}")
    if (score.low is None) != (score.high is None):
        raise FieldError(trail, "an interval has two ends: 'low' and 'high'")
    if score.low is not None and score.high is not None and score.low > score.high:
        raise FieldError(trail, f"'low' is above 'high' ({score.low!r}, {score.high!r})")
