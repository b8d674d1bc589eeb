"""Records for tests of tables and stores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.records.model_info import Machine, ModelInfo
from harness.records.protocol import Protocol, TaskProtocol
from harness.records.record import Cell, RunRecord, Score

PROTOCOL = {
    "version": 2.0,
    "samples": 500,
    "seed": 42,
    "generator": "exact",
    "generation": {"until": [], "max_gen_toks": 128},
    "data": {},
}
CHOICES = ("max_length", "spec", "shots", "stops_at_references")


def cell(task: str = "niah_single_1", length: int | None = 1024, value: float = 0.5, **changes: Any) -> Cell:
    """A cell as the suite `ruler_table3` wants it; changes may be of its protocol too."""
    own = {name: changes.pop(name) for name in (*PROTOCOL, *CHOICES) if name in changes}
    fields: dict[str, Any] = {
        "protocol": TaskProtocol(name=task, length=length, **{**PROTOCOL, "max_length": length or 1024, **own}),
        "context_prefix": "tokenizer",
        "lm_eval_name": f"gdn2_{task}_{length}",
        "scores": {"acc": Score(value=value, unit="share", n=500, low=max(value - 0.04, 0.0), high=value + 0.04)},
    }
    return Cell(**{**fields, **changes})


def model(checkpoint: str = "ours", **changes: Any) -> ModelInfo:
    fields: dict[str, Any] = {
        "name": "folder",
        "architecture": "gdn2",
        "parameters": 10,
        "layers": 1,
        "state_bytes": 5,
        "checkpoint_sha256": checkpoint,
        "tokenizer_sha256": "t" * 64,
        "dtype": "float32",
        "device": "cpu",
        "context_prefix": "tokenizer",
        "max_length": 1024,
    }
    return ModelInfo(**{**fields, **changes})


def record(name: str = "ours", cells: tuple[Cell, ...] = (), **changes: Any) -> RunRecord:
    """A record of these cells; changes may be of its protocol too."""
    protocol = Protocol(
        suite="ruler_table3",
        tasks=tuple(cell.protocol for cell in cells),
        context_prefix="tokenizer",
        dtype="float32",
        tokenizer_sha256="t" * 64,
        lm_eval=changes.pop("lm_eval", None) or installed(),
    )
    own = {name: changes.pop(name) for name in ("dtype", "tokenizer_sha256", "decoding") if name in changes}
    fields: dict[str, Any] = {
        "run_id": f"{name}/x",
        "name": name,
        "suite": "ruler_table3",
        "protocol": replace(protocol, **own),
        "protocol_hash": "0" * 64,
        "model": model(name),
        "cells": cells,
        "command": ("run",),
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:00:01+00:00",
        "seconds": 1.0,
        "peak_memory_mib": 1.0,
        "machine": Machine(cpu="a", cores=2, threads=2, memory_gib=8.0, system="Linux", python="3.11"),
        "packages": {},
        "git_commit": None,
        "git_dirty": None,
    }
    return RunRecord(**{**fields, **changes})


def installed() -> str:
    """The version of lm-eval that is here."""
    from harness.records.protocol import package_versions

    return package_versions()["lm_eval"]


def place(record: RunRecord) -> tuple[Path, RunRecord]:
    return Path("somewhere"), record
