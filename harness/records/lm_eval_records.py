"""Result files of lm-eval as records: what they say is taken, what they do not say is unknown, nothing is guessed."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.records.added import UNKNOWN
from harness.records.cells import interval_of
from harness.records.fields import FieldError
from harness.records.lm_eval_files import LmEvalResults, LmEvalTask, Stated, fields_of, read_results
from harness.records.lm_eval_model import (
    amount_of,
    count_of,
    machine_of,
    model_info,
    name_of,
    packages_of,
    source_of,
    started_at,
    text_of,
)
from harness.records.protocol import Protocol, TaskProtocol
from harness.records.record import FILE_NAME, Cell, RunRecord, Score, check_score
from harness.records.samples import Sample, write_samples
from harness.records.stats import Z95
from harness.records.store import find_records, new_run_folder
from harness.records.their_names import Known, known_task
from tasks.families import unit_of

SUITE = "lm-eval"
AGGREGATIONS = {
    "perplexity": "perplexity",
    "word_perplexity": "weighted_perplexity",
    "byte_perplexity": "weighted_perplexity",
    "bits_per_byte": "bits_per_byte",
}
"""How lm-eval makes these metrics of its documents' values; all others here are means."""


@dataclass(frozen=True)
class AddedRun:
    """A record that was made of a result file, and the folder that holds it."""

    record: RunRecord
    folder: Path


def add_results(path: Path, output: Path, name: str | None = None, folders: Iterable[Path] = ()) -> AddedRun:
    """Make a run folder of a result file of lm-eval.

    Args:
        path: the file.
        output: the folder of runs.
        name: the model's in tables; by default that of the file.
        folders: where records are; a file that one of them was made of is not added again.

    Raises:
        UserError: as `read_results`, the file was added before, or the folder cannot be written.
    """
    results = read_results(path)
    looked = [folder for folder in dict.fromkeys([output, *folders]) if folder.is_dir()]
    for file, record in find_records(looked, lambda _: None):
        if record.added is not None and record.added.sha256 == results.sha256:
            raise UserError(
                f"{path}: added already, as {file.parent}; remove that with `results remove` to add it anew"
            )
    record, samples = make_record(results, name)
    with new_run_folder(output / record.name, record.run_id.rpartition("/")[2]) as (folder, publish):
        if samples:
            write_samples(folder, samples)
        (folder / FILE_NAME).write_text(record.to_json(), encoding="utf-8")
        return AddedRun(record, publish())


def make_record(results: LmEvalResults, name: str | None = None) -> tuple[RunRecord, list[Sample]]:
    """Make the record and the samples of a result file."""
    parts = [part for task in results.tasks for part in _cells(results, task)]
    if not parts:
        raise UserError(f"{results.path}: does not say how many documents were scored; add it with its samples")
    cells = tuple(cell for cell, _ in parts)
    name = name or name_of(results)
    started = started_at(results.raw)
    tokens = [fields_of(task.config, "generation_kwargs").get("do_sample") for task in results.tasks]
    model = model_info(results, name)
    protocol = Protocol(
        suite=SUITE,
        tasks=tuple(cell.protocol for cell in cells),
        context_prefix=UNKNOWN,
        dtype=model.dtype,
        tokenizer_sha256=UNKNOWN,
        lm_eval=text_of(results.raw.get("lm_eval_version")) or UNKNOWN,
        decoding="greedy" if all(sampled is False for sampled in tokens) else UNKNOWN,
    )
    seconds = amount_of(results.raw.get("total_evaluation_time_seconds"))
    end = started + datetime.timedelta(seconds=seconds or 0)
    record = RunRecord(
        run_id=f"{name}/{started:%Y-%m-%dT%H-%M-%S}_{protocol.hash[:8]}",
        name=name,
        suite=SUITE,
        protocol=protocol,
        protocol_hash=protocol.hash,
        model=model,
        cells=cells,
        command=(),
        started=started.isoformat(timespec="seconds"),
        finished=end.isoformat(timespec="seconds"),
        seconds=seconds,
        peak_memory_mib=None,
        machine=machine_of(results.raw),
        packages=packages_of(results.raw),
        git_commit=None,
        git_dirty=None,
        added=source_of(results),
    )
    return record, [sample for _, samples in parts for sample in samples]


def _cells(results: LmEvalResults, task: LmEvalTask) -> list[tuple[Cell, list[Sample]]]:
    """A task's cell with its samples; RULER's have one for each length, which lm-eval calls a metric."""
    known = known_task(task.name, task.config)
    lengths = [int(metric) for metric, _ in task.scores if metric.isdigit()] if known.by_length else []
    if not lengths:
        cell = _cell(results, task, known, task.name, task.scores, list(task.samples or ()))
        return [] if cell is None else [(cell, list(task.samples or ()))]
    found = []
    for length in lengths:
        label = f"{task.name}@{length}"
        asked = [
            replace(sample, task=label, scores={"acc": score})
            for sample in task.samples or ()
            if (score := sample.scores.get(str(length))) not in (None, -1)
        ]
        stated = {("acc", name): score for (metric, name), score in task.scores.items() if metric == str(length)}
        cell = _cell(results, task, replace(known, length=length), label, stated, asked, only=len(lengths) == 1)
        if cell is not None:
            found.append((cell, asked))
    return found


def _cell(
    results: LmEvalResults,
    task: LmEvalTask,
    known: Known,
    label: str,
    stated: Mapping[tuple[str, str], Stated],
    samples: Sequence[Sample],
    *,
    only: bool = True,
) -> Cell | None:
    """One cell; None where nobody says how many documents it has."""
    documents = len(samples) or (task.documents if only else None)
    if not documents:
        return None
    fills = [sample.fill for sample in samples if sample.fill is not None]
    answers = [sample.answer for sample in samples if sample.answer is not None]
    is_all = "limit" in results.config and results.config["limit"] is None and known.length is None
    is_all = is_all and documents >= (task.available or 0)  # `--samples` has no limit either
    scores = dict(
        _score(metric, name, score, task.rises.get(metric, True), samples, documents)
        for (metric, name), score in stated.items()
    )
    return Cell(
        protocol=TaskProtocol(
            name=known.name,
            length=known.length,
            version=task.version,
            samples=None if is_all else documents,
            seed=known.seed,
            max_length=count_of(results.raw.get("max_length")) or None,
            generator=known.generator,
            generation=_generation(task.config),
            data=None,
            shots=task.shots,
        ),
        context_prefix=UNKNOWN,
        lm_eval_name=label,
        scores=scores,
        mean_fill=round(sum(fills) / len(fills), 5) if fills else None,
        min_fill=round(min(fills), 5) if fills else None,
        documents={"empty_answers": sum(not answer.strip() for answer in answers)} if answers else {},
        truncated=None,
        tokens=None,
        shared_tokens=None,
        seconds=None,
    )


def _generation(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of generation in the form of our protocols, where greedy decoding is not said."""
    said = dict(fields_of(config, "generation_kwargs"))
    if said.get("do_sample") is False:
        del said["do_sample"]
    return said


def _score(
    metric: str, name: str, stated: Stated, rises: bool, samples: Sequence[Sample], documents: int
) -> tuple[str, Score]:
    """A score under its name in a record: the metric, with its filter unless that is lm-eval's `none`.

    The interval is that of our own cells where the samples give the stated value, else that of the stated error.
    """
    key = metric if name == "none" else f"{metric},{name}"
    asked = [sample.scores[key] for sample in samples if key in sample.scores]
    values = [value for value in asked if value is not None]
    unit = unit_of(metric)
    interval = None
    if values and _same_value(values, metric, stated.value):
        interval = interval_of(values, AGGREGATIONS.get(metric, "mean"), unit)
    elif stated.error:
        interval = stated.value - Z95 * stated.error, stated.value + Z95 * stated.error
    if unit == "share" and interval is not None:
        interval = max(0.0, interval[0]), min(1.0, interval[1])
    if interval is not None and not interval[0] <= stated.value <= interval[1]:
        interval = None  # the samples make another value than the file states
    score = Score(
        value=stated.value,
        unit=unit,
        n=len(values) or documents,
        unscored=len(asked) - len(values),
        low=interval[0] if interval else None,
        high=interval[1] if interval else None,
        higher_is_better=rises,
    )
    try:
        check_score(key, score, key)
    except FieldError:  # lm-eval has metrics of the same name from 0 to 100
        return f"{metric},{name}", replace(score, unit="number", low=None, high=None)
    return key, score


def _same_value(values: Sequence[Any], metric: str, stated: float) -> bool:
    """Whether the documents' values make what is stated: as a mean, or in one of lm-eval's ways with pairs."""
    if metric in AGGREGATIONS or any(isinstance(value, tuple) for value in values):
        return metric in AGGREGATIONS
    return bool(abs(sum(values) / len(values) - stated) < 1e-6)
