"""lm-eval, some tasks at a time: evaluate, merge, and write the result files that its own tools read."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from harness.errors import UserError

BOOTSTRAP_ITERS = 1000  # with 0, lm-eval leaves out the standard errors that need no bootstrap as well
MERGED = ("results", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "samples", "group_subtasks")


def quiet_lm_eval() -> None:
    """Let lm-eval and datasets warn only: no bars or lines beside ours, no pools of processes for standard errors."""
    os.environ.setdefault("DISABLE_MULTIPROC", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    import datasets
    from lm_eval.api import metrics, task

    datasets.disable_progress_bars()
    metrics._bootstrap_internal_no_mp = _replicates
    if not isinstance(task.tqdm, partial):
        task.tqdm = partial(task.tqdm, disable=True)  # TQDM_DISABLE counts only before the first import
    for name in ("lm_eval", "lm-eval"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lm_eval.api.task").setLevel(logging.ERROR)  # it advertises --metadata at every custom data set
    logging.getLogger("lm_eval.evaluator_utils").setLevel(logging.ERROR)  # some metrics concern some documents only


def _replicates(statistic: Callable[[Sequence[Any]], float], values: Sequence[Any], iterations: int) -> list[float]:
    """lm-eval's own bootstrap replicates, to the bit, without its line and its bar."""
    size = min(1000, iterations)
    draws = (random.Random(chunk) for chunk in range(iterations // size))
    return [statistic(draw.choices(values, k=len(values))) for draw in draws for _ in range(size)]


def evaluate_tasks(model: Any, configs: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """lm-eval's result of tasks whose requests are asked in one call, samples included.

    Args:
        model: an lm-eval model.
        configs: complete task configurations, as `tasks.registry.resolve` makes them.
        metadata: what document builders are given: tokenizer and context prefix.
    """
    from lm_eval.evaluator import evaluate

    loaded = _load(configs, metadata)
    result: dict[str, Any] = evaluate(lm=model, task_dict=loaded, bootstrap_iters=BOOTSTRAP_ITERS, log_samples=True)
    return result


def load_task(config: Mapping[str, Any], metadata: Mapping[str, Any]) -> Any:
    """lm-eval's task object of a configuration, its documents drawn; nothing is asked yet."""
    (task,) = _load([config], metadata)["tasks"].values()
    return task


def texts_of(config: Mapping[str, Any], metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(kind, what its input begins with) of each request that a task would ask."""
    task = load_task(config, metadata)
    task.build_all_requests(limit=None, rank=0, world_size=1)
    for request in task.instances:
        yield str(request.request_type), str(request.args[0])


def _load(configs: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]) -> dict[str, Any]:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_defaults=False, metadata=dict(metadata))
    loaded: dict[str, Any] = manager.load([dict(config) for config in configs])
    for task in loaded["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=1234)
    return loaded


def of_task(result: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The part of a result that is about one of its tasks, as if it had been evaluated alone."""
    parts = {
        key: {task: value[task]} if key in MERGED and isinstance(value, Mapping) and task in value else value
        for key, value in result.items()
    }
    return {**parts, "group_subtasks": {task: []}} if "group_subtasks" in result else parts


def merge(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One result of several tasks' results."""
    merged: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            if key in MERGED and isinstance(value, Mapping):
                merged[key] = {**merged.get(key, {}), **value}
            else:
                merged.setdefault(key, value)
    return merged


def write_results(
    folder: Path, merged: dict[str, Any], model_args: Mapping[str, Any], model_info: Mapping[str, Any], started: float
) -> None:
    """Write `results_<date>.json` and `samples_<task>_<date>.jsonl` by lm-eval's own tracker into `folder`.

    Raises:
        UserError: a file is missing afterwards; the tracker itself only warns.
    """
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.loggers.utils import add_env_info

    samples = merged.pop("samples", {})
    merged["config"] = {"model": "gdn2", "model_args": dict(model_args), **model_info}
    merged["date"] = started
    add_env_info(merged)
    tracker = EvaluationTracker(output_path=str(folder))
    tracker.general_config_tracker.log_experiment_args("gdn2", dict(model_args), None, None, False)
    tracker.general_config_tracker.start_time = time.perf_counter() - (time.time() - started)
    tracker.save_results_aggregated(results=merged, samples=samples)
    for task, rows in samples.items():
        tracker.save_results_samples(task, rows)

    written = sorted(folder.glob("*/*.json*"))
    for file in written:
        file.rename(folder / file.name)
    for parent in {file.parent for file in written}:
        parent.rmdir()
    names = [file.name for file in written]
    lacking = [name for name in ("results", *(f"samples_{task}" for task in samples)) if not _has(names, name)]
    if lacking:
        raise UserError(f"{folder}: lm-eval could not write {lacking[0]}; is there space left on the disk?")


def _has(names: Sequence[str], start: str) -> bool:
    return any(name.startswith(f"{start}_") for name in names)
