"""From lm-eval's result of one task to a cell of a table: scores with intervals, fill, what was cut."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from basis.names import listed
from harness.records.fields import FieldError
from harness.records.protocol import TaskProtocol, digest
from harness.records.record import Cell, Score, check_score
from harness.records.stats import mean_interval, ratio_interval
from tasks import data as staged
from tasks.families import unit_of
from tasks.generators import own_data_hashes
from tasks.metrics import Unit
from tasks.registry import ResolvedTask
from tasks.retrieval.unread import count_given_away
from tasks.score_names import score_name
from tasks.task_files import own_file

log = logging.getLogger(__name__)
MOST_NAMED = 5
"""Metrics that a message names."""


def make_cell(
    task: ResolvedTask,
    protocol: TaskProtocol,
    result: Mapping[str, Any],
    *,
    context_prefix: str,
    truncated: int,
    apart: int = 0,
    tokens: int,
    shared_tokens: int,
    seconds: float,
    peak_memory_mib: float | None,
    together: Sequence[str] = (),
) -> Cell:
    """Make the cell of a task.

    Args:
        task: as it was asked for.
        protocol: as it was run.
        result: of lm-eval, with samples.
        context_prefix: the name of what came before every context.
        truncated: requests that lost their beginning.
        apart: continuations that were encoded apart from their context.
        tokens: that the model read and generated.
        shared_tokens: that were not read again.
        seconds: that it took.
        peak_memory_mib: while it ran; None where unknown.
        together: lm-eval's names of the tasks that were run in one call with it.
    """
    samples: Sequence[Mapping[str, Any]] = result["samples"][task.lm_eval_name]
    docs = [sample["doc"] for sample in samples]
    fills = [doc["fill"] for doc in docs if doc.get("fill") is not None]
    return Cell(
        protocol=protocol,
        context_prefix=context_prefix,
        lm_eval_name=task.lm_eval_name,
        scores=_scores(task, result, samples),
        mean_fill=round(sum(fills) / len(fills), 5) if fills else None,
        min_fill=round(min(fills), 5) if fills else None,
        documents={**_documents(docs), **_answers(task, samples), **({"encoded_apart": apart} if apart else {})},
        truncated=truncated,
        tokens=tokens,
        shared_tokens=shared_tokens,
        seconds=round(seconds, 2),
        peak_memory_mib=peak_memory_mib,
        together=tuple(together),
    )


def task_protocol(
    task: ResolvedTask, max_length: int, data: Mapping[str, str], stops_at_references: bool = False
) -> TaskProtocol:
    """Say what fixes the meaning of a task's numbers.

    Args:
        task: as it is asked for.
        max_length: tokens beyond which a request loses its beginning.
        data: SHA-256 of the files that it reads, as `data_hashes` gives them.
        stops_at_references: whether a generation may end when every reference has appeared.
    """
    generation = dict(task.config.get("generation_kwargs") or {})
    generation.pop("do_sample", None)
    return TaskProtocol(
        name=task.info.name,
        length=task.length,
        version=float(task.config["metadata"]["version"]),
        samples=task.samples,
        seed=task.seed,
        max_length=max_length,
        generator=task.recorded_generator,
        shots=task.shots,
        generation=generation,
        data=data,
        spec=spec_hash(task),
        stops_at_references=stops_at_references,
    )


def _documents(docs: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Of a task over real documents: rows of the data set, rows dropped, documents cut, answers that the cut lost."""
    if not docs or "source_rows" not in docs[0]:
        return {}
    counts = {"rows": int(docs[0]["source_rows"]), "dropped": int(docs[0]["dropped_rows"])}
    if "is_cut" not in docs[0]:
        return counts
    return {
        **counts,
        "cut": sum(bool(doc["is_cut"]) for doc in docs),
        "without_answer": sum(not doc["answer_in_prompt"] for doc in docs),
    }


def _answers(task: ResolvedTask, samples: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Of a task with generated answers: how many are empty, and how many questions are answered without reading."""
    if task.config.get("output_type") != "generate_until":
        return {}
    counts = {"empty_answers": sum(not str(sample["filtered_resps"][0]).strip() for sample in samples)}
    given_away = count_given_away(task.config, [sample["doc"] for sample in samples])
    return counts if given_away is None else {**counts, "given_away": given_away}


def data_hashes(task: ResolvedTask) -> dict[str, str]:
    """SHA-256 of the staged files that a task reads.

    Raises:
        DataNotStaged: a file is missing, or is no longer what was staged.
    """
    manifest = staged.read_manifest()
    hashes = {}
    for name in task.data:
        path = staged.path(name)
        hashes[name] = staged.file_sha256(path)
        if manifest.get(name, {}).get("sha256", hashes[name]) != hashes[name]:
            raise staged.DataNotStaged(
                f"{path} has changed since it was staged; run `python run_eval.py stage {path.stem}`"
            )
    return {**hashes, **own_data_hashes(task.config)}


def spec_hash(task: ResolvedTask) -> str | None:
    """What identifies the definition of a task of the user's own; None for ours, whose version says it."""
    if not task.info.is_own:
        return None
    varying = ("length", "samples", "seed")
    spec = {name: value for name, value in task.config["dataset_kwargs"]["spec"].items() if name not in varying}
    scoring = score_name(task.config["process_results"])
    said = {"spec": spec, "generation": task.config.get("generation_kwargs"), "scoring": scoring}
    return digest({**said, **_own_ways(task.config)})[:16]


def _own_ways(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a task of the user's own does to documents and scores unlike the others; most do nothing."""
    changed = config.get("process_docs")
    ways = {entry["metric"]: entry["aggregation"] for entry in config["metric_list"]}
    named = {metric: way if isinstance(way, str) else score_name(way) for metric, way in ways.items() if _is_own(way)}
    return ({"documents": score_name(changed)} if changed else {}) | ({"aggregation": named} if named else {})


def _is_own(way: Any) -> bool:
    """Whether an aggregation is neither the mean nor a function of this project."""
    return way != "mean" and (isinstance(way, str) or own_file(way) is not None)


def _scores(task: ResolvedTask, result: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> dict[str, Score]:
    """The scores by metric; one that cannot be a number of its unit, such as an infinite perplexity, is left out."""
    found = {}
    for metric in task.metrics:
        if f"{metric},none" not in result["results"][task.lm_eval_name]:
            log.warning("%s: no document was scored by %s; the record leaves it out", task.lm_eval_name, metric)
            continue
        score = _score(task, result, samples, metric)
        try:
            check_score(metric, score, metric)
        except FieldError as error:
            log.warning("%s: %s; the record leaves it out", task.lm_eval_name, error)
            continue
        found[metric] = score
    if task.info.is_own and (others := _unlisted(task, result["results"][task.lm_eval_name])):
        log.warning("%s: scored by %s too; list it in metric_list, or the record leaves it out", *others)
    return found


def _unlisted(task: ResolvedTask, stated: Mapping[str, Any]) -> tuple[str, str] | None:
    """A task, and what its scoring function gives beside the metrics that it lists, of which lm-eval takes the mean."""
    given = [key.removesuffix(",none") for key in stated if key.endswith(",none") and not key.endswith("_stderr,none")]
    others = [metric for metric in given if metric not in task.metrics]
    return (task.lm_eval_name, listed(others, MOST_NAMED)) if others else None


def _score(task: ResolvedTask, result: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], metric: str) -> Score:
    asked = [sample for sample in samples if metric in sample]  # a metric may concern some documents only
    values = [sample[metric] for sample in asked if sample[metric] is not None]
    unscored = len(asked) - len(values)
    entry = next(entry for entry in task.config["metric_list"] if entry["metric"] == metric)
    aggregation = entry["aggregation"]
    if units := getattr(aggregation, "units", None):  # documents that are scored together
        values, aggregation = units(values), "mean"
    interval = interval_of(values, str(aggregation), unit_of(metric))
    return Score(
        value=float(result["results"][task.lm_eval_name][f"{metric},none"]),
        unit=unit_of(metric),
        n=len(values),
        unscored=unscored,
        low=interval[0] if interval else None,
        high=interval[1] if interval else None,
        higher_is_better=bool(entry["higher_is_better"]),
    )


def interval_of(values: Sequence[Any], aggregation: str, unit: Unit) -> tuple[float, float] | None:
    """95 %; of (log-likelihood, weight) pairs in the unit of lm-eval's aggregation. None where none is known."""
    if aggregation == "mean":
        is_share = unit == "share" or all(0 <= value <= 1 for value in values)
        return mean_interval(values) if is_share else ratio_interval([(value, 1) for value in values])
    if aggregation == "perplexity":  # lm-eval's: of the mean log-likelihood of a document
        values, aggregation = [(value, 1) for value in values], "weighted_perplexity"
    units: dict[str, Callable[[float], float]] = {
        "bits_per_byte": lambda ratio: -ratio / math.log(2),
        "weighted_perplexity": lambda ratio: math.exp(-ratio),
    }
    to_unit = units.get(aggregation)
    interval = ratio_interval(values) if to_unit else None
    if to_unit is None or interval is None:
        return None
    try:
        high, low = (to_unit(end) for end in interval)
    except OverflowError:  # of a perplexity beyond all numbers
        return None
    return low, high
