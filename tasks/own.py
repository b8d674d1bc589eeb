"""Tasks from a YAML file of the user's own: read strictly, every mistake with its line, then known by name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basis.errors import FileError
from tasks import families
from tasks.errors import TaskError
from tasks.info import TaskInfo
from tasks.limits import LENGTH
from tasks.located import Located, locate
from tasks.own_fields import problems_of
from tasks.problems import Problem
from tasks.task_files import load_yaml

ENDINGS = (".yaml", ".yml")
_infos: dict[str, TaskInfo] = {}


@dataclass(frozen=True)
class OwnTask:
    """A file as read: its merged fields, and what is wrong with them. `located` is None if it is not YAML."""

    file: Path
    raw: dict[str, Any]
    problems: tuple[Problem, ...]
    located: Located | None = None

    def lines(self) -> list[str]:
        """Each problem as `file:line:column: field: message`."""
        if self.located is None:
            return [problem.message for problem in self.problems]
        return [f"{self.located.where(problem.path)}: {problem}" for problem in self.problems]


def is_file_name(name: str) -> bool:
    """Whether a task's name is the path of a YAML file, with or without a length behind it."""
    return _split(name)[0].endswith(ENDINGS)


def _split(name: str) -> tuple[str, str]:
    """The path and the length behind it, which may be empty. Folders and files may have an @ in their names."""
    if name.endswith(ENDINGS):
        return name, ""
    path, _, length = name.rpartition("@")
    return (path, length) if path.endswith(ENDINGS) else (name, "")


def find(name: str, folder: Path | None = None) -> tuple[TaskInfo, int | None]:
    """The task of a file such as `mine.yaml` or `mine.yaml@1024`; from now on it is known by its name as well.

    Args:
        name: the path of the file, with or without `@` and a length behind it.
        folder: what the path is relative to; by default the current folder.

    Raises:
        TaskError: the first mistake of the file, with line and column.
    """
    path, length = _split(name)
    if length and not re.fullmatch(LENGTH, length):
        raise TaskError(f"task {path!r}: the length behind @ must be a whole number, got {length[:50]!r}")
    info = _info(read(((folder or Path()) / path).expanduser()))
    known = _infos.get(info.name)
    if known is not None and known.file.resolve() != info.file.resolve():
        raise TaskError(f"{info.file}: task {info.name!r} is the name of {known.file} as well; give it another one")
    _infos[info.name] = info
    return info, int(length) if length else None


def known() -> dict[str, TaskInfo]:
    """The tasks of files that were read, by name."""
    return _infos


def spellings(name: str) -> list[str]:
    """The names that run a task: one for each length of a file; any other name as it is."""
    if not is_file_name(name) or _split(name)[1]:
        return [name]
    info, _ = find(name)
    return [f"{name}@{length}" for length in info.lengths] or [name]


def read(file: Path) -> OwnTask:
    """A file with everything that is wrong with it; reads no data and needs no tokenizer."""
    try:
        located = locate(file)
    except FileError as error:
        return OwnTask(file, {}, (Problem((), str(error)),))
    try:
        raw = load_yaml(file)
    except TaskError as error:
        return _unmerged(file, error, located)
    return OwnTask(file, raw, tuple(problems_of(raw, file)), located)


def _unmerged(file: Path, error: TaskError, located: Located) -> OwnTask:
    """A file that could not be merged with what it includes, or that holds what is no value."""
    message = " ".join(str(error).split())
    if re.match(re.escape(f"{file}:") + r"\d", message):
        return OwnTask(file, {}, (Problem((), message),))
    if message.startswith(f"{file}:"):
        return OwnTask(file, {}, (Problem((), message.removeprefix(f"{file}: ")),), located)
    message += "; `python run_eval.py tasks new NAME` writes the right path"
    return OwnTask(file, {}, (Problem(("include",), message),), located)


def _info(task: OwnTask) -> TaskInfo:
    if task.problems:
        more = len(task.problems) - 1
        rest = f" (and {more} more: `python run_eval.py tasks check {task.file}`)" if more else ""
        raise TaskError(task.lines()[0] + rest)
    raw, spec = task.raw, task.raw["dataset_kwargs"]["spec"]
    metadata = raw.get("metadata") or {}
    metrics = tuple(str(entry["metric"]) for entry in raw["metric_list"])
    lengths = spec.get("lengths", [spec["length"]] if "length" in spec else [])
    return TaskInfo(
        name=raw["task"],
        family=str(metadata.get("family", families.OTHER.name)),
        builder=str(raw["custom_dataset"]),
        lengths=tuple(lengths),
        metric=metadata["metric"] if metadata.get("metric") in metrics else metrics[0],
        metrics=metrics,
        description=str(metadata.get("description", "")),
        data=tuple(metadata.get("data", ["essays.json"] if spec.get("haystack", "essay") == "essay" else [])),
        samples=spec.get("samples", 100),
        file=task.file,
        is_own=True,
    )


def complete(raw: dict[str, Any], info: TaskInfo) -> None:
    """Write out what the file of a task may leave to its defaults, and where its own files lie."""
    spec = raw["dataset_kwargs"]["spec"]
    spec.pop("lengths", None)
    spec.setdefault("samples", info.samples)
    spec.setdefault("seed", 42)
    family = families.built_by(info.builder)
    if family is not None and family.has_own_texts:
        raw["dataset_kwargs"]["folder"] = str(info.file.resolve().parent)
    raw["metadata"] = {"version": 1.0, **(raw.get("metadata") or {})}
