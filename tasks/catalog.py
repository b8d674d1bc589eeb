"""Names of tasks and what they stand for. Imports nothing heavy: YAML and paths.

A task is defined by the YAML that carries `metadata: name:`. A task with lengths has its own folder: `_base.yaml`
defines it, `<length>.yaml` are the shipped lengths; any other length works through `resolve`.
"""

from __future__ import annotations

import difflib
import importlib
import re
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from tasks.errors import TaskError
from tasks.perplexity.buckets import metrics_at
from tasks.ruler.generators import DEFAULT_SEEDS, check_generator

ROOT = Path(__file__).parent
PREFIX = "gdn2_"
MAX_LENGTH = 1 << 24
"""Tokens; a longer document is a slip of the pen that would take hours to make."""
OVERSHOOT = 64
"""Tokens by which a prompt of the official generators can exceed its length: BOS, and an answer prefix not counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskInfo:
    """One task as listed."""

    name: str
    family: str
    lengths: tuple[int, ...]
    """Shipped lengths in tokens; empty for a task without a length."""
    metric: str
    """The metric that tables show by default."""
    metrics: tuple[str, ...]
    description: str
    data: tuple[str, ...]
    """Names of the staged files that it reads."""
    samples: int | None
    """Documents by default; None: all that the data set has."""
    file: Path
    is_own: bool = False
    """Whether a file of the user's defines it."""
    examples: str | None = None
    """The staged file that solved examples are drawn from; None: the task takes none."""
    room: tuple[int, int] = (1, 0)
    """A request of a task with a length has at most room[0] lengths and room[1] tokens."""

    @property
    def has_length(self) -> bool:
        """Whether the task is defined at any length."""
        return bool(self.lengths)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedTask:
    """One task ready for lm-eval: `config` goes into the list that `simple_evaluate(tasks=[...])` takes."""

    info: TaskInfo
    length: int | None
    samples: int | None
    seed: int
    lm_eval_name: str
    config: dict[str, Any]

    @property
    def metrics(self) -> tuple[str, ...]:
        """What it is scored by at its length."""
        return tuple(entry["metric"] for entry in self.config["metric_list"])

    @property
    def max_length(self) -> int:
        """Tokens of prompt and generation that a request may have; 0 for a task without a length."""
        lengths, tokens = self.info.room
        tokens += 0 if self.generator in (None, "exact") else OVERSHOOT
        return self.length * lengths + tokens if self.length is not None else 0

    @property
    def shots(self) -> int:
        """Solved examples in front of a question."""
        return int(self.config.get("num_fewshot") or 0)

    @property
    def data(self) -> tuple[str, ...]:
        """Names of the staged files that it reads, those of solved examples included."""
        return (*self.info.data, *([self.info.examples] if self.info.examples and self.shots else []))

    @property
    def generator(self) -> str | None:
        """How the samples of a RULER task are made; None for other tasks."""
        spec = self.config["dataset_kwargs"]["spec"]
        return str(spec.get("generator", "exact")) if self.info.family == "ruler" else None


def shipped() -> dict[str, TaskInfo]:
    """The tasks of this project, by name."""
    return _tasks()


def list_tasks() -> list[TaskInfo]:
    """Every task, sorted by family and name."""
    return sorted(_tasks().values(), key=lambda info: (info.family, info.name))


def data_files(names: list[str]) -> list[str]:
    """The staged files that these tasks (any accepted spelling) read, without repetition."""
    return list(dict.fromkeys(file for name in names for file in _parse_name(name)[0].data))


def resolve(
    name: str,
    length: int | None = None,
    samples: int | None = None,
    seed: int | None = None,
    generator: str | None = None,
    shots: int | None = None,
) -> ResolvedTask:
    """Turn a name into a complete lm-eval task configuration.

    Args:
        name: `niah_single_1@1024`, `gdn2_niah_single_1_1024`, `niah_single_1` with `length`, `squad_retrieval`, or a
            task's YAML file: `mine.yaml@1024`.
        length: tokens, for tasks that have a length and a name that does not say it.
        samples: number of documents; by default the task's.
        seed: of the documents; by default the task's, or what the generator is seeded with.
        generator: of RULER's tasks; by default `exact`. Other tasks have none and do not heed it.

    Raises:
        TaskError: an unknown name (with the nearest ones) or generator, a missing or superfluous length, a number
            below 1.
    """
    info, named_length = _parse_name(name)
    if length is not None and named_length not in (None, length):
        raise TaskError(f"task {name!r} says length {named_length}, but {length} was given as well")
    length = named_length if length is None else length
    if info.has_length and length is None:
        shipped = ", ".join(map(str, info.lengths))
        raise TaskError(f"task {info.name!r} needs a length: write {info.name}@1024 (shipped: {shipped}; any works)")
    if not info.has_length and length is not None:
        raise TaskError(f"task {info.name!r} has no length: write {info.name}")
    for field, value in (("length", length), ("samples", samples)):
        if value is not None and value < 1:
            raise TaskError(f"task {info.name!r}: {field} must be at least 1, got {value}")

    if length is not None and length > MAX_LENGTH:
        raise TaskError(f"task {info.name!r}: length must be at most {MAX_LENGTH:,} tokens, got {length:,}")

    raw = deepcopy(load_yaml(info.file))
    if info.is_own:
        from tasks import own  # it reads its files by functions of this module

        own.complete(raw, info)
    spec = raw["dataset_kwargs"]["spec"]
    spec |= {"length": length} if length is not None else {}
    spec |= {"samples": samples} if samples is not None else {}
    if generator is not None and info.family == "ruler":
        spec |= {"generator": check_generator(generator, f"task {info.name!r}"), "seed": DEFAULT_SEEDS[generator]}
    spec |= {"seed": seed} if seed is not None else {}
    _set_shots(raw, info, shots or 0)
    lm_eval_name = f"{PREFIX}{info.name}" + (f"_{length}" if length is not None else "")
    config: dict[str, Any] = _with_functions(raw)
    config.pop("tag", None)
    config["task"] = lm_eval_name
    if info.family == "perplexity" and length is not None:
        config["metric_list"] = metrics_at(config["metric_list"], length)
    return ResolvedTask(
        info=info,
        length=length,
        samples=spec["samples"],
        seed=spec["seed"],
        lm_eval_name=lm_eval_name,
        config=config,
    )


def _set_shots(raw: dict[str, Any], info: TaskInfo, shots: int) -> None:
    """Put the number of solved examples into a configuration; without any, what draws them is left out."""
    if shots < 0:
        raise TaskError(f"task {info.name!r}: shots must be at least 0, got {shots}")
    if shots and info.examples is None:
        raise TaskError(f"task {info.name!r} takes no solved examples in front of its question: leave shots at 0")
    if shots:
        raw["num_fewshot"] = shots
    elif info.examples is not None:
        raw["dataset_kwargs"]["spec"].pop("examples")
        raw.pop("fewshot_config")


class FunctionName(str):
    """A dotted name that stood behind `!function`."""


def load_yaml(file: Path, _chain: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A task YAML with its `include` merged, as lm-eval merges it; functions stay names. Raises TaskError."""
    try:
        loaded = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise TaskError(f"{file}: cannot be read ({error})") from error
    if not isinstance(loaded, dict):
        raise TaskError(f"{file}: must be a mapping of fields")
    included = loaded.pop("include", None)
    if not included:
        return loaded
    if not isinstance(included, str):
        raise TaskError(f"{file}: include must be the path of one YAML file, got {included!r}")
    chain = (*_chain, file.resolve())
    if (file.parent / included).resolve() in chain:
        raise TaskError(f"{file}: include {included!r} leads back to itself")
    return {**load_yaml(file.parent / included, chain), **loaded}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """SafeLoader that keeps `!function` as a name."""


_Loader.add_constructor("!function", lambda _loader, node: FunctionName(node.value))


@lru_cache(maxsize=1)
def _tasks() -> dict[str, TaskInfo]:
    infos: dict[str, TaskInfo] = {}
    for file in sorted(ROOT.glob("*/**/*.yaml")):
        if file.parent.name == "suites" or file.stem.isdigit():
            continue
        config = load_yaml(file)
        metadata = config.get("metadata", {})
        if "name" not in metadata:
            continue
        lengths = sorted(int(other.stem) for other in file.parent.glob("*.yaml") if other.stem.isdigit())
        infos[metadata["name"]] = TaskInfo(
            name=metadata["name"],
            family=metadata["family"],
            lengths=tuple(lengths) if file.name == "_base.yaml" else (),
            metric=metadata["metric"],
            metrics=tuple(entry["metric"] for entry in config["metric_list"]),
            description=metadata["description"],
            data=tuple(metadata["data"]),
            samples=config["dataset_kwargs"]["spec"]["samples"],
            file=file,
            examples=config["dataset_kwargs"]["spec"].get("examples"),
            room=tuple(metadata.get("room", (1, 0))),
        )
    return infos


def _parse_name(name: str) -> tuple[TaskInfo, int | None]:
    from tasks import own  # it reads its files by functions of this module

    if own.is_file_name(name):
        return own.find(name)
    infos = {**_tasks(), **own.known()}
    plain = name.removeprefix(PREFIX)
    if plain in infos:
        return infos[plain], None
    if (match := re.fullmatch(r"(.+)[@_](\d+)", plain)) and match[1] in infos:
        return infos[match[1]], int(match[2])
    known = [spelling for info in infos.values() for spelling in _spellings(info)]
    near = difflib.get_close_matches(name, dict.fromkeys([*infos, *known]), n=3, cutoff=0.0)
    raise TaskError(f"unknown task {name!r}: did you mean {', '.join(near)}? `python run_eval.py tasks list` names all")


def _spellings(info: TaskInfo) -> list[str]:
    return [f"{info.name}@{length}" for length in info.lengths] or [info.name]


def _with_functions(value: Any) -> Any:
    """The same with imported functions in place of their names."""
    if isinstance(value, FunctionName):
        return import_function(value)
    if isinstance(value, dict):
        return {key: _with_functions(item) for key, item in value.items()}
    return [_with_functions(item) for item in value] if isinstance(value, list) else value


def import_function(name: str) -> Any:
    """What stands behind `!function`. Raises TaskError."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise TaskError(f"!function {name}: cannot be imported ({error}); write module.function") from error
