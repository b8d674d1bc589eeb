"""Tasks from a YAML file of the user's own: read strictly, every mistake with its line, then known by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import families
from tasks.errors import TaskError
from tasks.families import Family
from tasks.info import PREFIX, TaskInfo
from tasks.located import Located, SyntaxProblem, locate
from tasks.problems import Problem, unknown_fields
from tasks.shipped import shipped_tasks
from tasks.task_files import FunctionName, import_function, load_yaml

ENDINGS = (".yaml", ".yml")
LM_EVAL_FIELDS = (
    *("task", "task_alias", "tag", "custom_dataset", "dataset_path", "dataset_name", "dataset_kwargs"),
    *("training_split", "validation_split", "test_split", "fewshot_split", "process_docs", "doc_to_text"),
    *("doc_to_target", "doc_to_image", "doc_to_audio", "unsafe_code", "doc_to_choice", "process_results"),
    *("use_prompt", "description", "target_delimiter", "fewshot_delimiter", "fewshot_config", "num_fewshot"),
    *("metric_list", "output_type", "generation_kwargs", "repeats", "filter_list", "should_decontaminate"),
    *("doc_to_decontamination_query", "gen_prefix", "metadata"),
)
"""What lm-eval's TaskConfig takes."""
KEPT = {
    "output_type": "generate_until",
    "doc_to_text": "input",
    "gen_prefix": "{{gen_prefix}}",
    "target_delimiter": " ",
    "test_split": "test",
}
METADATA: tuple[tuple[str, type | tuple[type, ...], str], ...] = (
    ("version", (int, float), "a number"),
    ("description", str, "text"),
    ("data", list, "a list of staged files"),
    ("family", str, "text"),
    ("metric", str, "text"),
)
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
    return name.split("@")[0].endswith(ENDINGS)


def find(name: str, folder: Path | None = None) -> tuple[TaskInfo, int | None]:
    """The task of a file such as `mine.yaml` or `mine.yaml@1024`; from now on it is known by its name as well.

    Args:
        name: the path of the file, with or without `@` and a length behind it.
        folder: what the path is relative to; by default the current folder.

    Raises:
        TaskError: the first mistake of the file, with line and column.
    """
    path, _, length = name.partition("@")
    if length and not length.isdigit():
        raise TaskError(f"task {name!r}: the length behind @ must be a whole number, got {length!r}")
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
    if not is_file_name(name) or "@" in name:
        return [name]
    info, _ = find(name)
    return [f"{name}@{length}" for length in info.lengths] or [name]


def read(file: Path) -> OwnTask:
    """A file with everything that is wrong with it; reads no data and needs no tokenizer."""
    try:
        located = locate(file)
    except SyntaxProblem as error:
        return OwnTask(file, {}, (Problem((), str(error)),))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return OwnTask(file, {}, (Problem((), f"{file}: cannot be read ({reason})"),))
    try:
        raw = load_yaml(file)
    except TaskError as error:
        return OwnTask(file, {}, (_include_problem(file, error),), located)
    problems = [Problem(trail, "is given twice") for trail in located.repeated]
    return OwnTask(file, raw, (*problems, *_check(raw, file)), located)


def _include_problem(file: Path, error: TaskError) -> Problem:
    """Why the file could not be merged with what it includes."""
    message = " ".join(str(error).split())
    if message.startswith(f"{file}:"):
        return Problem((), message.removeprefix(f"{file}: "))
    return Problem(("include",), f"{message}; `python run_eval.py tasks new NAME` writes the right path")


def _check(raw: Mapping[str, Any], file: Path) -> list[Problem]:
    problems = unknown_fields(raw, LM_EVAL_FIELDS)
    task = raw.get("task")
    if not isinstance(task, str) or not re.fullmatch(r"\w+", task):
        problems.append(Problem(("task",), f"must be a name of letters, digits and _, got {task!r}"))
    elif task in shipped_tasks() or task.removeprefix(PREFIX) in shipped_tasks():
        problems.append(Problem(("task",), f"{task!r} is a task of this project; give yours another name"))
    if not isinstance(raw.get("dataset_kwargs"), Mapping) or "spec" not in raw["dataset_kwargs"]:
        return [*problems, Problem(("dataset_kwargs",), "must be a mapping with 'spec'")]
    problems += _check_kept(raw)
    builder = str(raw.get("custom_dataset", ""))
    family = families.built_by(builder)
    if family is None:
        message = f"{builder or 'missing'}: not a family of this project; include tasks/needle/_base.yaml"
        return [*problems, Problem(("custom_dataset",), message)]
    if raw.get("num_fewshot"):
        message = "documents fill their length, so there is no room for solved examples: leave it out"
        problems.append(Problem(("num_fewshot",), message))
    problems += [problem.below("dataset_kwargs", "spec") for problem in _check_spec(family, raw, file)]
    return problems + _check_generation(family, raw) + ([] if problems else _check_metrics(family, raw))


def _check_kept(raw: Mapping[str, Any]) -> list[Problem]:
    """Fields that documents are counted with, and those whose shape everything else relies on."""
    problems = [
        Problem((name,), f"is {raw[name]!r}, but prompts are made and counted with {value!r}: leave it out")
        for name, value in KEPT.items()
        if name in raw and raw[name] != value
    ]
    for name, value in raw.items():
        if isinstance(value, FunctionName):
            try:
                import_function(value)
            except TaskError as error:
                problems.append(Problem((name,), str(error)))
    for name in ("metadata", "generation_kwargs"):
        if not isinstance(raw.get(name) or {}, Mapping):
            problems.append(Problem((name,), f"must be a mapping of fields, got {raw[name]!r}"))
    metadata = raw.get("metadata") or {}
    for name, kinds, shape in METADATA:
        if isinstance(metadata, Mapping) and name in metadata and not isinstance(metadata[name], kinds):
            problems.append(Problem(("metadata", name), f"must be {shape}, got {metadata[name]!r}"))
    return problems


def _check_spec(family: Family, raw: Mapping[str, Any], file: Path) -> list[Problem]:
    spec = raw["dataset_kwargs"]["spec"]
    if not isinstance(spec, Mapping):
        return [Problem((), f"must be a mapping of fields, got {spec!r}")]
    problems = []
    if "task" in spec and spec["task"] != raw.get("task"):
        problems.append(Problem(("task",), f"{spec['task']!r} is not the file's task, {raw.get('task')!r}"))
    return problems + (family.problems_of(spec, file.parent) if family.problems_of else [])


def _check_generation(family: Family, raw: Mapping[str, Any]) -> list[Problem]:
    """The tokens that lm-eval lets a model generate are the ones that the spec leaves room for."""
    spec, generation = raw["dataset_kwargs"]["spec"], raw.get("generation_kwargs") or {}
    if family.generated_tokens is None or not isinstance(generation, Mapping):
        return []
    wanted = family.generated_tokens(spec if isinstance(spec, Mapping) else {})
    given = generation.get("max_gen_toks")
    if given == wanted:
        return []
    where = ("generation_kwargs", "max_gen_toks")
    return [Problem(where, f"is {given}, but the spec's generated_tokens is {wanted}: write the same number in both")]


def _check_metrics(family: Family, raw: Mapping[str, Any]) -> list[Problem]:
    """The metrics that lm-eval is told are those that the scoring gives, each a mean."""
    given = raw.get("metric_list")
    if not isinstance(given, list) or not given or any(not isinstance(entry, Mapping) for entry in given):
        return [Problem(("metric_list",), f"must be a list such as [{_metric_entry('acc')}], got {given!r}")]
    wanted = family.file_metrics(raw) if family.file_metrics else None
    if wanted is None:
        lacking = [index for index, entry in enumerate(given) if not isinstance(entry.get("metric"), str)]
        return [Problem(("metric_list", index), "lacks the field 'metric'") for index in lacking]
    complete = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in wanted]
    if sorted(map(str, given)) == sorted(map(str, complete)):
        return []
    listed = ", ".join(map(_metric_entry, wanted))
    return [Problem(("metric_list",), f"is not what the spec's scoring gives; write metric_list: [{listed}]")]


def _metric_entry(name: str) -> str:
    return f"{{metric: {name}, aggregation: mean, higher_is_better: true}}"


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
        metric=str(metadata.get("metric", metrics[0])),
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
