"""A task of the user's own as lm-eval runs it, with two documents and empty answers: what fails there fails now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from basis.errors import reason
from tasks.problems import Path, Problem

DOCUMENTS = 2


def problem_of_trial(
    config: Mapping[str, Any], tokenizer: str, context_prefix: str, may_be_rare: bool = False
) -> Problem | None:
    """Load a task by lm-eval, build its requests, score empty answers.

    Args:
        config: of the resolved task.
        tokenizer: folder or hub name of the tokenizer that fills its documents.
        context_prefix: what comes before the prompts.
        may_be_rare: whether a metric, but not all of them, may concern none of the first documents.

    Returns:
        What went wrong, at the field that it is about; None if nothing did.
    """
    log = logging.getLogger("lm_eval")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        return _problem(config, tokenizer, context_prefix, may_be_rare)
    finally:
        log.setLevel(before)


def _problem(config: Mapping[str, Any], tokenizer: str, context_prefix: str, may_be_rare: bool) -> Problem | None:
    metadata: dict[str, Any] = {"tokenizer": tokenizer, "context_prefix": context_prefix}
    if config.get("process_docs") is None:  # which may choose any of the documents
        metadata["max_samples"] = DOCUMENTS
    own = [name for name in ("process_docs", "doc_to_target") if config.get(name) not in (None, "outputs")]
    at: Path = tuple(own[:1])
    try:
        draw_no_bars()
        task = _load(config, metadata)
        task.build_all_requests(limit=DOCUMENTS, rank=0, world_size=1)
        at = ("process_results",)
        scores = [task.process_results(doc, [""]) for _, doc in task.doc_iterator(limit=DOCUMENTS)]
        given = list(dict.fromkeys(metric for score in scores for metric in score))
        may_be_rare = may_be_rare and not task.aggregation().keys().isdisjoint(given)
        for index, (metric, aggregate) in enumerate(task.aggregation().items()):
            at = ("metric_list", index)
            if metric in given:
                _check(aggregate, [score[metric] for score in scores if metric in score])
            elif not may_be_rare:
                named = ", ".join(given) or "nothing"
                return Problem(at, f"no document is scored by {metric!r}; process_results gives {named}")
    except (Exception, SystemExit) as error:  # functions of the user's own may raise anything
        return Problem(at, f"lm-eval cannot run the task: {type(error).__name__}: {reason(error)[:300]}")
    return None


def _check(aggregate: Callable[[list[Any]], Any], values: list[Any]) -> None:
    """Raise whatever an aggregation raises that has to do with its code, and not with how few values there are."""
    try:
        found = aggregate(values)
    except (ArithmeticError, ValueError):  # a precision where no answer is right, a deviation of one value
        return
    float(found)


def draw_no_bars() -> None:
    """Let lm-eval draw no bars of progress while it builds requests."""
    from lm_eval.api import task

    if not isinstance(task.tqdm, partial):
        task.tqdm = partial(task.tqdm, disable=True)  # TQDM_DISABLE counts only before the first import


def _load(config: Mapping[str, Any], metadata: dict[str, Any]) -> Any:
    from lm_eval.tasks import TaskManager

    (task,) = TaskManager(include_defaults=False, metadata=metadata).load([dict(config)])["tasks"].values()
    if task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    return task
