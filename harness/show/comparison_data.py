"""A comparison as data: JSON with everything, CSV with a row for each task of each pair."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, fields
from typing import Any

from harness.analysis.comparison import MeanComparison, ModelComparison, PairComparison, TaskComparison
from harness.show.plain import plain

PLACE = ("task", "length", "metric")
TASK = tuple(field.name for field in fields(TaskComparison) if field.name != "place")
FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def comparison_to_json(comparison: ModelComparison) -> str:
    """Every field of `harness/analysis/comparison.py`, with the verdicts; numbers that are not finite are null."""
    found = {
        "title": comparison.title,
        "models": list(comparison.models),
        "tests": comparison.tests,
        "notes": list(comparison.notes),
        "pairs": [_pair(pair) for pair in comparison.pairs],
    }
    return json.dumps(_finite(found), indent=2, allow_nan=False) + "\n"


def comparison_to_csv(comparison: ModelComparison) -> str:
    """One row a task of a pair, and one a mean, whose task is `mean: …`; shares from 0 to 1."""
    names = [name for name in TASK if name not in ("a", "b")]
    out = io.StringIO()
    columns = ["model_a", "model_b", *PLACE, "a", "b", "difference", *names, "verdict"]
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    for pair in comparison.pairs:
        head = {"model_a": _text(pair.a), "model_b": _text(pair.b)}
        for task in pair.tasks:
            writer.writerow(head | _line(_task(task)))
        for mean in pair.means:
            row = _mean(mean)
            row = {"task": f"mean: {row.pop('label')}", **row}
            del row["places"]
            writer.writerow(head | _line(row))
    return out.getvalue()


def _pair(pair: PairComparison) -> dict[str, Any]:
    return {
        "a": pair.a,
        "b": pair.b,
        "tasks": [_task(task) for task in pair.tasks],
        "means": [_mean(mean) for mean in pair.means],
        "left_out": [{"place": place, "reason": reason} for place, reason in pair.left_out],
        "problem": pair.problem,
    }


def _task(task: TaskComparison) -> dict[str, Any]:
    found = {name: getattr(task, name) for name in TASK}
    return {**asdict(task.place), **found, "difference": task.difference, "verdict": task.verdict}


def _mean(mean: MeanComparison) -> dict[str, Any]:
    return {**asdict(mean), "verdict": mean.verdict}


def _line(row: dict[str, Any]) -> dict[str, Any]:
    """The fields of a row; several numbers or notes are one field."""
    return {
        name: _text("; ".join(map(str, value)) if isinstance(value, tuple) else value) for name, value in row.items()
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(value: Any) -> Any:
    """A field that no spreadsheet takes for a formula, and no terminal for a command."""
    if not isinstance(value, str):
        return value
    return plain("'" + value if value[:1] in FORMULAS else value)
