"""Runs with samples beside their records, for tests of comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import records

from harness.analysis.selection import FoundRun
from harness.records.record import FILE_NAME, Cell, Score
from harness.records.samples import Sample, write_samples

Scores = Sequence[Any]


def samples_of(task: str, scores: Scores, **changes: Any) -> list[Sample]:
    """Samples s0, s1, … with these scores; changes are functions of the place, or values for all.

    Args:
        task: lm-eval's name.
        scores: `acc` of each, or a mapping of metrics.
        changes: fields of `Sample`.
    """
    found = []
    for place, score in enumerate(scores):
        fields: dict[str, Any] = {"sample": f"s{place}", "prompt": f"p{place}", "cluster": f"s{place}"}
        fields |= {name: change(place) if callable(change) else change for name, change in changes.items()}
        by_metric = dict(score) if isinstance(score, Mapping) else {"acc": score}
        found.append(Sample(task=task, index=place, scores=by_metric, **fields))
    return found


def cell_of(task: str, scores: Scores, length: int | None = 1024, **changes: Any) -> Cell:
    """The cell of scores of 0 and 1."""
    right = [score for score in scores if score is not None]
    value = sum(right) / len(right)
    score = Score(value=value, unit="share", n=len(right), low=max(0.0, value - 0.1), high=min(1.0, value + 0.1))
    return records.cell(task, length, scores={"acc": score}, samples=len(scores), **changes)


def run_of(
    folder: Path, name: str, cells: Iterable[Cell], samples: Iterable[Sample] | None = None, **changes: Any
) -> FoundRun:
    """A run on disk.

    Args:
        folder: for its folder.
        name: of the model.
        cells: of its record.
        samples: beside it; None for a run without any.
        changes: of the record.
    """
    day = changes.pop("day", 1)
    run_id = f"{name}/2026-01-0{day}T00-00-00_abcdef0{day}"
    started = f"2026-01-0{day}T00:00:00+00:00"
    record = records.record(name, tuple(cells), **{"run_id": run_id, "started": started, **changes})
    place = folder / run_id
    place.mkdir(parents=True)
    (place / FILE_NAME).write_text(record.to_json(), encoding="utf-8")
    if samples is not None:
        write_samples(place, samples)
    return FoundRun(place, record)


def simple_run(folder: Path, name: str, scores: Scores, task: str = "niah_single_1", **changes: Any) -> FoundRun:
    """A run of one task with scores of 0 and 1; changes may be of its samples, cell or record."""
    of_samples = {key: changes.pop(key) for key in ("sample", "prompt", "cluster") if key in changes}
    of_cell = {key: changes.pop(key) for key in ("context_prefix", "seed", "version", "length") if key in changes}
    cell = cell_of(task, scores, **of_cell)
    return run_of(folder, name, [cell], samples_of(cell.lm_eval_name, scores, **of_samples), **changes)
