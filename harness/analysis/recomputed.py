"""A record against itself: its protocol's hash, and its cells against the samples beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness.analysis.listing import has_samples
from harness.analysis.selection import FoundRun
from harness.records.cells import interval_of
from harness.records.record import Cell, Score
from harness.records.samples import Sample
from tasks.errors import TaskError
from tasks.families import unit_of
from tasks.registry import resolve

CLOSE = 1e-9
"""Relative: sums of the same numbers in another order."""


def faults_of(run: FoundRun) -> list[str]:
    """What a record says otherwise than its protocol and its samples make; empty where it agrees.

    Raises:
        UserError: the samples cannot be read.
    """
    record = run.record
    found = []
    if record.protocol.hash != record.protocol_hash:
        found.append(f"protocol_hash is {record.protocol_hash[:12]}…, its protocol makes {record.protocol.hash[:12]}…")
    if [cell.protocol for cell in record.cells] != list(record.protocol.tasks):
        found.append("the protocols of its cells are not those of its tasks")
    if has_samples(run.folder):
        for cell in record.cells:
            faults = _cell(cell, run.samples.get(cell.lm_eval_name, []))
            found += [f"{cell.protocol.label}: {fault}" for fault in faults]
    return found


def _cell(cell: Cell, samples: Sequence[Sample]) -> Iterator[str]:
    for metric, score in cell.scores.items():
        made = remade(cell, metric, samples)
        if made is None:
            continue
        for name in ("value", "n", "unscored", "low", "high"):
            have, want = getattr(score, name), getattr(made, name)
            if not _is_close(have, want):
                yield f"{metric}.{name} is {have}, its samples make {want}"
    fills = [sample.fill for sample in samples if sample.fill is not None]
    for name, of in (("mean_fill", sum(fills) / len(fills) if fills else None), ("min_fill", min(fills, default=None))):
        have = getattr(cell, name)
        if have is not None and not _is_close(have, None if of is None else round(of, 5)):
            yield f"{name} is {have}, its samples make {of}"
    empty = sum(sample.answer is not None and not sample.answer.strip() for sample in samples)
    if cell.documents.get("empty_answers", empty) != empty:
        yield f"empty_answers is {cell.documents['empty_answers']}, its samples make {empty}"


def remade(cell: Cell, metric: str, samples: Sequence[Sample]) -> Score | None:
    """The score that samples make, as a run computes it.

    Returns:
        None for a metric whose samples are numbers that lm-eval puts together in a way that is not known here.
    """
    how = _aggregation(cell, metric)
    asked = [sample.scores[metric] for sample in samples if metric in sample.scores]
    values: Sequence[Any] = [value for value in asked if value is not None]
    if how is None:
        return None
    aggregation = how
    value = _put_together(aggregation, values)
    if units := getattr(aggregation, "units", None):  # documents that are scored together
        values, aggregation = units(values), "mean"
    unit = unit_of(metric)
    interval = interval_of(values, str(aggregation), unit) if values else None
    low, high = interval or (None, None)
    return Score(
        value=value,
        unit=unit,
        n=len(values),
        unscored=len(asked) - len([v for v in asked if v is not None]),
        low=low,
        high=high,
    )


def _aggregation(cell: Cell, metric: str) -> str | Callable[[Sequence[Any]], float] | None:
    """How lm-eval makes a metric of its documents' values, as the task's YAML says; None where that is not known."""
    try:
        task = resolve(cell.protocol.label)
    except TaskError:  # a task of somebody's own
        return None
    listed: Mapping[str, Any] = {entry["metric"]: entry["aggregation"] for entry in task.config["metric_list"]}
    found = listed.get(metric)
    return found if callable(found) or found in KNOWN else None


def _put_together(how: str | Callable[[Sequence[Any]], float], values: Sequence[Any]) -> float:
    if not values:
        return math.nan
    try:
        return float(how(values)) if callable(how) else KNOWN[how](values)
    except OverflowError:  # a perplexity beyond all numbers
        return math.inf


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return -sum(first for first, _ in pairs) / sum(second for _, second in pairs)


KNOWN: dict[str, Callable[[Sequence[Any]], float]] = {
    "mean": lambda values: sum(values) / len(values),
    "perplexity": lambda values: math.exp(-sum(values) / len(values)),
    "weighted_perplexity": lambda pairs: math.exp(_ratio(pairs)),
    "bits_per_byte": lambda pairs: _ratio(pairs) / math.log(2),
}
"""lm-eval's own ways, by their names in YAML."""


def _is_close(have: float | None, want: float | None) -> bool:
    if have is None or want is None:
        return have is want
    return math.isclose(have, want, rel_tol=CLOSE, abs_tol=CLOSE)
