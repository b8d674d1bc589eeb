"""Runs as one flat table: a row a sample, or a row a cell and metric, for pandas and the like.

`SAMPLE_COLUMNS` and `CELL_COLUMNS` are a format that people read by name: columns are added at the end, never renamed.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from basis.files import write_atomically
from harness.analysis.listing import machine_of
from harness.analysis.selection import FoundRun
from harness.errors import UserError
from harness.records.record import Cell, RunRecord
from harness.records.samples import Sample

if TYPE_CHECKING:
    import pyarrow as pa

Rows = Literal["samples", "cells"]
ENDINGS = (".csv", ".parquet")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
RUN_COLUMNS = {
    **dict.fromkeys(("run_id", "model", "suite", "started", "protocol", "dtype", "added"), "text"),
}
SAMPLE_COLUMNS = {
    **RUN_COLUMNS,
    "task": "text",
    "length": "whole",
    "lm_eval_task": "text",
    "index": "whole",
    **dict.fromkeys(("sample", "prompt", "cluster", "metric"), "text"),
    "score": "number",
    "weight": "number",
    "scores": "text",
    "answer": "text",
    "references": "text",
    "query": "text",
    "depth": "number",
    "fill": "number",
    "verdict": "text",
    "answered": "bool",
}
CELL_COLUMNS = {
    **RUN_COLUMNS,
    "task": "text",
    "length": "whole",
    "lm_eval_task": "text",
    "metric": "text",
    "is_main": "bool",
    "value": "number",
    "unit": "text",
    "n": "whole",
    "unscored": "whole",
    "low": "number",
    "high": "number",
    "higher_is_better": "bool",
    "asked": "whole",
    "seed": "whole",
    "generator": "text",
    "shots": "whole",
    "task_version": "number",
    "context_prefix": "text",
    "max_length": "whole",
    "mean_fill": "number",
    "min_fill": "number",
    "truncated": "whole",
    "empty_answers": "whole",
    "tokens": "whole",
    "shared_tokens": "whole",
    "seconds": "number",
    "peak_memory_mib": "number",
    "parameters": "whole",
    "state_bytes": "whole",
    "state_bytes_a_token": "whole",
    "checkpoint_sha256": "text",
    "device": "text",
    "machine": "text",
    "folder": "text",
}


def check_ending(path: Path) -> None:
    """Refuse a file whose ending no table has.

    Raises:
        UserError: names the endings.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"--output {path}: end it in {' or '.join(ENDINGS)}")


def export(runs: Iterable[FoundRun], rows: Rows, path: Path) -> int:
    """Write the table of some runs.

    Args:
        runs: with their samples, for `samples`.
        rows: what a row is.
        path: a file ending in .csv or .parquet.

    Returns:
        The number of rows.

    Raises:
        UserError: another ending, a run without samples, or a file that cannot be written.
    """
    check_ending(path)
    columns = SAMPLE_COLUMNS if rows == "samples" else CELL_COLUMNS
    made = (row for run in runs for row in (sample_rows(run) if rows == "samples" else cell_rows(run)))
    found = [{name: _valid(value) for name, value in row.items()} for row in made]
    write_atomically(path, _parquet(found, columns) if path.suffix.lower() == ".parquet" else _csv(found, columns))
    return len(found)


def cell_rows(run: FoundRun) -> Iterator[dict[str, Any]]:
    """A row for each metric of each cell, by `CELL_COLUMNS`."""
    record = run.record
    model = record.model
    for cell in record.cells:
        said = cell.protocol
        for place, (metric, score) in enumerate(cell.scores.items()):
            yield {
                **_run(record),
                **_task(cell),
                "metric": metric,
                "is_main": place == 0,
                "value": score.value,
                "unit": score.unit,
                "n": score.n,
                "unscored": score.unscored,
                "low": score.low,
                "high": score.high,
                "higher_is_better": score.higher_is_better,
                "asked": said.samples,
                "seed": said.seed,
                "generator": said.generator,
                "shots": said.shots,
                "task_version": said.version,
                "context_prefix": cell.context_prefix,
                "max_length": said.max_length,
                "mean_fill": cell.mean_fill,
                "min_fill": cell.min_fill,
                "truncated": cell.truncated,
                "empty_answers": cell.documents.get("empty_answers"),
                "tokens": cell.tokens,
                "shared_tokens": cell.shared_tokens,
                "seconds": cell.seconds,
                "peak_memory_mib": cell.peak_memory_mib,
                "parameters": model.parameters,
                "state_bytes": model.state_bytes,
                "state_bytes_a_token": model.state_bytes_a_token,
                "checkpoint_sha256": model.checkpoint_sha256,
                "device": model.device,
                "machine": machine_of(record),
                "folder": str(run.folder),
            }


def sample_rows(run: FoundRun) -> Iterator[dict[str, Any]]:
    """A row for each sample, by `SAMPLE_COLUMNS`.

    `metric` and `score` are of the cell's first metric; of one that takes pairs, the second number is the `weight`.
    All of a sample's scores are JSON in `scores`.
    """
    cells = {cell.lm_eval_name: cell for cell in run.record.cells}
    for task, samples in run.samples.items():
        cell = cells.get(task)
        if cell is None:
            raise UserError(f"{run.folder}: has samples of {task}, which is no task of its record; restore the folder")
        for sample in samples:
            yield {**_run(run.record), **_task(cell), **_sample(cell, sample)}


def _run(record: RunRecord) -> dict[str, Any]:
    return {
        "run_id": record.run_id,
        "model": record.name,
        "suite": record.suite,
        "started": record.started,
        "protocol": record.protocol_hash,
        "dtype": record.protocol.dtype,
        "added": None if record.added is None else record.added.remark,
    }


def _task(cell: Cell) -> dict[str, Any]:
    return {"task": cell.protocol.name, "length": cell.protocol.length, "lm_eval_task": cell.lm_eval_name}


def _sample(cell: Cell, sample: Sample) -> dict[str, Any]:
    metric = next((metric for metric in cell.scores if metric in sample.scores), next(iter(sample.scores), None))
    score = None if metric is None else sample.scores[metric]
    value, weight = (_known(part) for part in (score if isinstance(score, tuple) else (score, None)))
    scores = {
        name: [_known(part) for part in one] if isinstance(one, tuple) else _known(one)
        for name, one in sample.scores.items()
    }
    return {
        "index": sample.index,
        "sample": sample.sample,
        "prompt": sample.prompt,
        "cluster": sample.cluster,
        "metric": metric,
        "score": value,
        "weight": weight,
        "scores": json.dumps(scores, allow_nan=False),
        "answer": sample.answer,
        "references": json.dumps(sample.references, ensure_ascii=False) if sample.references else None,
        "query": sample.query,
        "depth": sample.depth,
        "fill": sample.fill,
        "verdict": sample.verdict,
        "answered": sample.answered,
    }


def _known(number: float | None) -> float | None:
    """A number that tables have a word for; None for others."""
    return number if number is not None and math.isfinite(number) else None


def harmless(value: object) -> object:
    """A value that no spreadsheet takes for a formula: such a text begins with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _csv(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([harmless(row[name]) for name in columns] for row in rows)
    return text.getvalue()


def _parquet(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds: dict[str, pa.DataType] = {
        "text": pa.string(),
        "whole": pa.int64(),
        "number": pa.float64(),
        "bool": pa.bool_(),
    }
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
    target = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), target)
    return bytes(target.getvalue().to_pybytes())


def _valid(value: Any) -> Any:
    """A text without halves of characters, which models may generate and no file in UTF-8 holds."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value
