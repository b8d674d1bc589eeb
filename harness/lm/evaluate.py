"""lm-eval, some tasks at a time: evaluate, merge, and write the result files that its own tools read."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.engine.journal import Journal
    from harness.lm.model import GDN2LM
    from harness.lm.terms import Measures, Terms

FEWSHOT_SEED = 1234  # lm-eval's own
KEPT_BYTES = 1 << 30  # of text in memory between looking at tasks and running them
BOOTSTRAP_ITERS = 1000  # with 0, lm-eval leaves out the standard errors that need no bootstrap as well
MERGED = ("results", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "samples", "group_subtasks")


def quiet_lm_eval() -> None:
    """Let lm-eval and datasets warn only: no bars or lines beside ours, no pools of processes for standard errors."""
    os.environ.setdefault("DISABLE_MULTIPROC", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    import datasets
    from lm_eval.api import metrics

    from tasks.trial import draw_no_bars

    datasets.disable_progress_bars()
    metrics._bootstrap_internal_no_mp = _replicates
    draw_no_bars()
    for name in ("lm_eval", "lm-eval"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lm_eval.api.task").setLevel(logging.ERROR)  # it advertises --metadata at every custom data set
    logging.getLogger("lm_eval.evaluator_utils").setLevel(logging.ERROR)  # some metrics concern some documents only


def _replicates(statistic: Callable[[Sequence[Any]], float], values: Sequence[Any], iterations: int) -> list[float]:
    """lm-eval's own bootstrap replicates, to the bit, without its line and its bar."""
    size = min(1000, iterations)
    draws = (random.Random(chunk) for chunk in range(iterations // size))
    return [statistic(draw.choices(values, k=len(values))) for draw in draws for _ in range(size)]


class LoadedTasks:
    """lm-eval's tasks with their documents, each loaded once where memory allows.

    A task is looked at to see what it has in common with others, and then run. Its documents are kept in between while
    all that is kept has at most `most_bytes` of text; beyond that they are drawn again, the same ones.

    Args:
        configs: complete task configurations, as `tasks.registry.resolve` makes them.
        metadata: what document builders are given: tokenizer and context prefix.
        most_bytes: of the texts of all tasks that are kept.
    """

    def __init__(
        self, configs: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any], most_bytes: int = KEPT_BYTES
    ) -> None:
        self._configs, self._metadata = configs, metadata
        self._room = most_bytes
        self._kept: dict[int, Any] = {}

    def texts(self, index: int) -> Iterator[tuple[str, str]]:
        """For each request of a task its kind and what its input begins with."""
        task, size = self._load(index), 0
        task.build_all_requests(limit=None, rank=0, world_size=1)
        for request in task.instances:
            text = str(request.args[0])
            size += len(text)
            yield str(request.request_type), text
        task._instances = None  # lm-eval builds them again; together with the documents they would be twice the text
        if size <= self._room:
            self._kept[index] = task
            self._room -= size

    def take(self, indices: Iterable[int]) -> list[Any]:
        """Some tasks, to be run; they are not kept any longer."""
        return [self._kept.pop(index, None) or self._load(index) for index in indices]

    def _load(self, index: int) -> Any:
        return load_task(self._configs[index], self._metadata)


def load_task(config: Mapping[str, Any], metadata: Mapping[str, Any]) -> Any:
    """lm-eval's task object of a configuration, its documents drawn; nothing is asked yet."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_defaults=False, metadata=dict(metadata))
    (task,) = manager.load([dict(config)])["tasks"].values()
    if task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=FEWSHOT_SEED)
    return task


def evaluate_tasks(model: Any, tasks: Sequence[Any]) -> dict[str, Any]:
    """Run tasks whose requests are asked in one call.

    Args:
        model: an lm-eval model.
        tasks: as `load_task` gives them.

    Returns:
        lm-eval's result, samples included.
    """
    from lm_eval.evaluator import evaluate

    for task in tasks:
        task.set_fewshot_seed(seed=FEWSHOT_SEED)  # anew, where requests have been built before
    named = {task.config.task: task for task in tasks}
    result: dict[str, Any] = evaluate(
        lm=model,
        task_dict={"tasks": named, "groups": {}, "group_map": {}},
        bootstrap_iters=BOOTSTRAP_ITERS,
        log_samples=True,
    )
    return result


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one call of some tasks gave.

    Attributes:
        results: lm-eval's result of each task, by its name, as if it had been evaluated alone.
        measures: requests that were cut, and tokens, by task.
        seconds: of the call, and of an interrupted one before it.
        peak_memory_mib: of the call; None where the system does not say.
    """

    results: Mapping[str, dict[str, Any]]
    measures: Measures
    seconds: float
    peak_memory_mib: float | None


def measure(
    model: GDN2LM, tasks: Sequence[Any], terms: Mapping[str, Terms], journal: Journal | None = None
) -> Measured:
    """Run tasks in one call on given terms.

    Args:
        model: answers the requests.
        tasks: as `load_task` gives them.
        terms: by lm-eval's names of the tasks.
        journal: keeps what is finished, and knows what was.
    """
    from harness.engine.journal import Journal
    from harness.engine.memory import PeakMemory

    journal, peak = Journal() if journal is None else journal, PeakMemory(model.device)
    peak.start()
    journal.begin("+".join(task.config.task for task in tasks))
    with model.under(terms, journal) as measures:
        result = evaluate_tasks(model, tasks)
    return Measured(
        results={task.config.task: of_task(result, task.config.task) for task in tasks},
        measures=measures,
        seconds=journal.end(),
        peak_memory_mib=peak.mib(),
    )


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
