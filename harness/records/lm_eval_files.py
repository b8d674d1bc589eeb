"""Result files of lm-eval (0.4.3 and later, of any model) as values: each task's scores and samples."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basis.files import load_json, read_bytes
from harness.errors import UserError
from harness.records.record import FILE_NAME
from harness.records.samples import Sample, broken_line, lines_of, samples_of

NOT_MEASURED = -1
"""What lm-eval's RULER tasks give for a length that was not asked for."""
NOT_SCORED = "bypass"
"""The metric, always 999, of answers that lm-eval was told to write and not to score."""


@dataclass(frozen=True)
class Stated:
    """A score as the file states it; the error is None where it is not a number."""

    value: float
    error: float | None


@dataclass(frozen=True, kw_only=True)
class LmEvalTask:
    """One task of a result file.

    Attributes:
        name: lm-eval's.
        config: its configuration, as far as the file has it.
        scores: by metric and filter.
        rises: of each metric, whether more is better.
        version: of the task; None where the file does not say, here and below.
        shots: solved examples.
        documents: how many were scored.
        available: how many the task has.
        samples: None where they are not beside the file.
    """

    name: str
    config: Mapping[str, Any]
    scores: Mapping[tuple[str, str], Stated]
    rises: Mapping[str, bool]
    version: float | None
    shots: int | None
    documents: int | None
    available: int | None
    samples: tuple[Sample, ...] | None


@dataclass(frozen=True, kw_only=True)
class LmEvalResults:
    """A result file.

    Attributes:
        path: the file.
        sha256: of its bytes.
        raw: what it holds.
        tasks: those that have scores; averages of groups are left out.
    """

    path: Path
    sha256: str
    raw: Mapping[str, Any]
    tasks: tuple[LmEvalTask, ...]

    @property
    def config(self) -> Mapping[str, Any]:
        """What lm-eval was asked for."""
        return fields_of(self.raw, "config")


def read_results(path: Path) -> LmEvalResults:
    """Read a result file of lm-eval with the samples beside it.

    Raises:
        UserError: it is none; a score is no finite number; a line of the samples is broken, there twice, or missing.
    """
    if path.is_dir():
        files = sorted(file.name for file in path.rglob("results_*.json"))
        raise UserError(f"{path}: a folder; give a result file of lm-eval{f', such as {files[-1]}' if files else ''}")
    if path.name.startswith("samples_"):
        raise UserError(f"{path}: samples of lm-eval; give the results_*.json beside it, which says what was measured")
    if (path.parent / FILE_NAME).is_file():
        raise UserError(f"{path}: part of a run that tables read already ({path.parent / FILE_NAME})")
    raw = load_json(path)
    if not isinstance(raw, dict) or not isinstance(raw.get("results"), dict) or not isinstance(raw.get("config"), dict):
        raise UserError(
            f"{path}: not a result file of lm-eval (it must have the fields 'results' and 'config'); lm-eval writes "
            "results_*.json where it is given --output_path"
        )
    tasks = tuple(task for name in _leaves(raw) if (task := _task(path, raw, name)).scores)
    if not tasks and any(key.startswith(f"{NOT_SCORED},") for scores in raw["results"].values() for key in scores):
        raise UserError(f"{path}: made with --predict_only, so it has answers and no scores; run lm-eval without it")
    if not tasks:
        raise UserError(f"{path}: no task of it has a score of lm-eval 0.4.3 or later, such as 'acc,none'")
    return LmEvalResults(path=path, sha256=hashlib.sha256(read_bytes(path)).hexdigest(), raw=raw, tasks=tasks)


def fields_of(raw: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """An object inside others; empty where there is none."""
    for name in names:
        found = raw.get(name)
        raw = found if isinstance(found, dict) else {}
    return raw


def _leaves(raw: Mapping[str, Any]) -> list[str]:
    """Tasks that are no groups: a group's numbers are averages of its tasks'."""
    groups, members = fields_of(raw, "groups"), fields_of(raw, "group_subtasks")
    return [
        name
        for name, scores in raw["results"].items()
        if isinstance(scores, dict) and name not in groups and not members.get(name)
    ]


def _task(path: Path, raw: Mapping[str, Any], name: str) -> LmEvalTask:
    config, stated = fields_of(raw, "configs", name), raw["results"][name]
    scores = _scores(path, name, stated)
    samples = _samples(path, name, list(dict.fromkeys(metric for metric, _ in scores)), config)
    counted = fields_of(raw, "n-samples", name)
    documents, available = counted.get("effective", stated.get("sample_len")), counted.get("original")
    count = documents if type(documents) is int and documents > 0 else None
    if samples is not None and count is not None and len(samples) != count:
        raise UserError(
            f"{_sample_file(path, name)}: has {len(samples)} documents, but {path.name} says {count}; restore the "
            "file, or move it away to add the results without samples"
        )
    shots = fields_of(raw, "n-shot").get(name, config.get("num_fewshot"))
    return LmEvalTask(
        name=name,
        config=config,
        scores=scores,
        rises={metric: bool(up) for metric, up in fields_of(raw, "higher_is_better", name).items() if up is not None},
        version=_number(fields_of(raw, "versions").get(name)),
        shots=shots if type(shots) is int and shots >= 0 else None,
        documents=count if samples is None else len(samples),
        available=available if type(available) is int else None,
        samples=samples,
    )


def _scores(path: Path, task: str, stated: Mapping[str, Any]) -> dict[tuple[str, str], Stated]:
    """The scores of a task, by metric and filter.

    Raises:
        UserError: one is NaN or infinite.
    """
    found = {}
    for key, value in stated.items():
        metric, comma, name = key.rpartition(",")
        if not comma or metric == NOT_SCORED or metric.endswith("_stderr") or type(value) not in (int, float):
            continue
        if not math.isfinite(value):
            raise UserError(
                f"{path}: results.{task}.{key} is {value}, which is no score; take that line out of the file, or run "
                "the task again"
            )
        if not (metric.isdigit() and value == NOT_MEASURED):
            found[metric, name] = Stated(float(value), _number(stated.get(f"{metric}_stderr,{name}")))
    return found


def _number(value: Any) -> float | None:
    """A finite number, also one that is written as text."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _sample_file(path: Path, task: str) -> Path:
    return path.with_name(f"samples_{task}_{path.stem.rpartition('_')[2]}.jsonl")


def _samples(path: Path, task: str, metrics: Sequence[str], config: Mapping[str, Any]) -> tuple[Sample, ...] | None:
    """The samples of a task; None where they are not beside the file."""
    file = _sample_file(path, task)
    if not file.is_file():
        return None
    filters = config.get("filter_list")
    names = [str(entry.get("name")) for entry in filters] if isinstance(filters, list) and filters else ["none"]
    return tuple(samples_of({task: _rows(file, metrics, names)}))


def _rows(file: Path, metrics: Sequence[str], filters: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The lines of a sample file, as lm-eval 0.4.13 writes them.

    Before 0.4.6 they did not say their filter and metrics: documents come once for each filter, in the filters' order.

    Raises:
        UserError: names the file and the line.
    """
    met: Counter[Any] = Counter()
    seen = set()
    for number, raw in lines_of(file):
        try:
            place = met[raw["doc_id"]]
            met[raw["doc_id"]] += 1
            name = raw["filter"] if "filter" in raw else filters[place] if place < len(filters) else filters[0]
            scored = [metric for metric in raw.get("metrics", metrics) if _is_score(raw.get(metric))]
            row = {**raw, "filter": name, "metrics": scored}
            next(samples_of({"": [row]}))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise broken_line(file, number, f"not a sample of lm-eval 0.4.3 or later ({error!r})") from error
        if (raw["doc_id"], name) in seen:
            raise broken_line(file, number, f"document {raw['doc_id']} is there twice")
        if bad := next((metric for metric in scored if _is_nan(raw[metric])), None):
            raise broken_line(file, number, f"{bad} is NaN, which is no score")
        seen.add((raw["doc_id"], name))
        yield row


def _is_score(value: Any) -> bool:
    """A number, a pair of them, or nothing; what other metrics collect (texts, lists) is no score of a document."""
    parts = value if isinstance(value, list) and len(value) == 2 else [value]
    return value is None or all(isinstance(part, (int, float)) for part in parts)


def _is_nan(value: Any) -> bool:
    return any(isinstance(part, float) and math.isnan(part) for part in (value if isinstance(value, list) else [value]))
