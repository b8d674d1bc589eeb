"""Records for tests of tables and stores."""

from __future__ import annotations

from pathlib import Path

from harness.records.record import Cell, RunRecord, Score


def cell(task: str = "niah_single_1", length: int | None = 1024, value: float = 0.5, **changes: object) -> Cell:
    fields = {
        "task": task,
        "length": length,
        "lm_eval_name": f"gdn2_{task}_{length}",
        "version": 2.0,
        "samples": 500,
        "seed": 42,
        "context_prefix": "tokenizer",
        "max_length": 1024,
        "data": {},
        "generator": "exact",
        "scores": {"acc": Score(value=value, n=500, low=value - 0.04, high=value + 0.04)},
    }
    return Cell(**{**fields, **changes})


def record(name: str = "ours", cells: tuple[Cell, ...] = (), **changes: object) -> RunRecord:
    fields = {
        "run_id": f"{name}/x",
        "name": name,
        "suite": "ruler_table3",
        "protocol": {},
        "protocol_hash": "0" * 64,
        "model": {"checkpoint_sha256": name, "parameters": 10, "state_bytes": 5, "dtype": "float32"},
        "cells": cells,
        "command": ("run",),
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:00:01+00:00",
        "seconds": 1.0,
        "peak_memory_mb": 1.0,
        "machine": {},
        "packages": {},
        "git_commit": None,
        "git_dirty": None,
    }
    return RunRecord(**{**fields, **changes})


def place(record: RunRecord) -> tuple[Path, RunRecord]:
    return Path("somewhere"), record
