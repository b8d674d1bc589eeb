"""What a run leaves behind for tables: one record, written once, refused by readers that are older than it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import UserError

SCHEMA_VERSION = 3
FILE_NAME = "record.json"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Score:
    """One metric of one cell."""

    value: float
    n: int
    """Documents that were scored."""
    unscored: int = 0
    low: float | None = None
    """Lower end of the 95 % interval; None where none is computed (perplexities)."""
    high: float | None = None
    higher_is_better: bool = True


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One task at one length, with everything that fixes what its numbers mean."""

    task: str
    """Name without length, such as `niah_single_1`."""
    length: int | None
    """Tokens of prompt and generation together; None for tasks without a length."""
    lm_eval_name: str
    version: float
    """The task's version, of its YAML."""
    samples: int | None
    """Documents asked for, None for all; `Score.n` says how many were scored."""
    seed: int
    context_prefix: str
    max_length: int
    """Tokens beyond which a request loses its beginning."""
    data: Mapping[str, str]
    """SHA-256 of the staged files that it read."""
    generator: str | None = None
    shots: int = 0
    """Solved examples in front of a question."""
    spec: str | None = None
    """What identifies the definition of a task of the user's own; None for ours."""
    scores: Mapping[str, Score] = field(default_factory=dict)
    mean_fill: float | None = None
    """Mean of (prompt + generated tokens) / length."""
    min_fill: float | None = None
    documents: Mapping[str, int] = field(default_factory=dict)
    """Of a task that cuts documents: rows of the data set, dropped, cut, without their answer after the cut.

    Of any task: continuations that were encoded apart from their context (`encoded_apart`).
    """
    truncated: int = 0
    """Requests that lost their beginning."""
    tokens: int = 0
    """Tokens that the model read and generated."""
    shared_tokens: int = 0
    """Tokens that requests had in common with others and that were not read again."""
    seconds: float = 0.0
    peak_memory_mb: float | None = None
    """Of the GPU's allocator, or of the process on a CPU, while the task ran."""
    together: tuple[str, ...] = ()
    """lm-eval's names of tasks that were run in one call with it, because they begin alike: seconds and tokens of the
    call are divided among them by the tokens of each, and the peak of memory is that of the call."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run of one model."""

    run_id: str
    name: str
    """The model's name in tables."""
    suite: str
    protocol: Mapping[str, Any]
    protocol_hash: str
    model: Mapping[str, Any]
    """`GDN2LM.get_model_info()`."""
    cells: tuple[Cell, ...]
    command: tuple[str, ...]
    """The arguments as typed, without --output: where results went says nothing about them."""
    started: str
    """UTC, ISO 8601."""
    finished: str
    seconds: float
    peak_memory_mb: float
    machine: Mapping[str, Any]
    packages: Mapping[str, str]
    git_commit: str | None
    git_dirty: bool | None
    schema: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """The record as record.json has it."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


def read_record(path: Path) -> RunRecord:
    """Read a record.

    Raises:
        UserError: not JSON, a newer schema, or a field that is missing or unknown; names the file and the field.
    """
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable record ({error}); remove it or restore it") from error
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if not isinstance(schema, int):
        raise UserError(f"{path}: field 'schema' is missing; this is not a record of run_eval.py")
    if schema > SCHEMA_VERSION:
        raise UserError(f"{path}: schema {schema} is newer than this version reads ({SCHEMA_VERSION}); update gdn2")
    cells = raw.get("cells")
    if not isinstance(cells, list):
        raise UserError(f"{path}: field 'cells' is missing")
    return _build(
        RunRecord,
        {
            **raw,
            "cells": tuple(cell_from_dict(cell, f"{path}: cells[{i}]") for i, cell in enumerate(cells)),
            "command": tuple(raw.get("command", ())),
        },
        str(path),
    )


def cell_from_dict(raw: Any, where: str) -> Cell:
    """A cell from its JSON; `where` begins its error messages."""
    if not isinstance(raw, dict) or not isinstance(raw.get("scores"), dict):
        raise UserError(f"{where}: field 'scores' is missing")
    scores = {name: _build(Score, score, f"{where}: scores.{name}") for name, score in raw["scores"].items()}
    return _build(Cell, {**raw, "scores": scores, "together": tuple(raw.get("together", ()))}, where)


def _build(kind: type[T], raw: Any, where: str) -> T:
    if not isinstance(raw, dict):
        raise UserError(f"{where}: expected fields, got {type(raw).__name__}")
    unknown = sorted(set(raw) - {item.name for item in fields(kind)})  # type: ignore[arg-type]
    if unknown:
        raise UserError(f"{where}: unknown field {unknown[0]!r}")
    try:
        return kind(**raw)
    except TypeError as error:
        raise UserError(f"{where}: {str(error).replace('__init__() ', '')}") from error
