"""What is wrong with the YAML files that lm-eval was told to include; it names no file, or passes one over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from basis.names import or_near, way_out
from tasks.errors import TaskError
from tasks.own import ENDINGS
from tasks.own_fields import LM_EVAL_FIELDS
from tasks.task_files import load_yaml

OF_GROUPS = ("group", "group_alias", "aggregate_metric_list", "class")
OPTION = "--include_path"


def first_mistake(arguments: Sequence[str]) -> str | None:
    """The first mistake of a task's file below the folders that `--include_path` names, with the file; None if none.

    Looked at are what lm-eval cannot load: files that are not YAML or include what is not there, unknown fields, and
    metrics that it does not know.
    """
    for folder in _folders(arguments):
        for file in sorted(path for ending in ENDINGS for path in folder.rglob(f"*{ending}")):
            for mistake in _mistakes(file):
                return mistake
    return None


def _folders(arguments: Sequence[str]) -> Iterator[Path]:
    for place, argument in enumerate(arguments):
        if argument.startswith(f"{OPTION}="):
            yield Path(argument.removeprefix(f"{OPTION}="))
        elif argument == OPTION and place + 1 < len(arguments):
            yield Path(arguments[place + 1])


def _mistakes(file: Path) -> Iterator[str]:
    try:
        fields = load_yaml(file)
    except TaskError as error:
        yield str(error)
        return
    if not isinstance(fields.get("task"), str) or "group" in fields:
        return
    known = (*LM_EVAL_FIELDS, *OF_GROUPS)
    for name in fields:
        if name not in known:
            yield f"{file}: {name}: unknown field; {way_out(name, known)}"
    entries = fields.get("metric_list")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and "aggregation" not in entry and not _is_metric(entry.get("metric")):
            metric = entry.get("metric")
            hint = f"name its aggregation, such as mean{or_near(metric, _metrics())}"
            yield f"{file}: metric_list: lm-eval has no metric {metric!r}; {hint}"


def _metrics() -> list[str]:
    from lm_eval.api.registry import METRIC_REGISTRY

    return list(METRIC_REGISTRY)


def _is_metric(name: Any) -> bool:
    from lm_eval.api.registry import get_metric_aggregation

    try:
        return isinstance(name, str) and get_metric_aggregation(name) is not None
    except (KeyError, ValueError):
        return False
