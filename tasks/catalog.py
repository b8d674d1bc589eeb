"""Tasks by name: those of this project and those of the user's own files, complete for lm-eval at any length.

Imports nothing heavy: YAML and paths.
"""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

from basis.names import way_out
from tasks import own
from tasks.errors import TaskError
from tasks.info import PREFIX, ResolvedTask, TaskInfo
from tasks.limits import LENGTH, MOST_TOKENS, number_problem
from tasks.ruler.generators import check_generator
from tasks.shipped import shipped_tasks
from tasks.task_files import load_yaml, with_functions


def list_tasks() -> list[TaskInfo]:
    """Every task, sorted by family and name."""
    return sorted(shipped_tasks().values(), key=lambda info: (info.family, info.name))


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
        generator: of RULER's tasks; by default `exact`. Other tasks have none and ignore it.
        shots: solved examples in front of a question; by default none.

    Raises:
        TaskError: an unknown name (with the nearest ones) or generator, a missing or superfluous length, a number
            out of bounds.
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
    _check_numbers(info, length=length, samples=samples, seed=seed, shots=shots)
    raw = deepcopy(load_yaml(info.file))
    if info.is_own:
        own.complete(raw, info)
    spec = raw["dataset_kwargs"]["spec"]
    spec |= {"length": length} if length is not None else {}
    spec |= {"samples": samples} if samples is not None else {}
    family = info.built_as
    if generator is not None and family.generators:
        spec |= {"generator": check_generator(generator, f"task {info.name!r}"), "seed": family.generators[generator]}
    spec |= {"seed": seed} if seed is not None else {}
    _set_shots(raw, info, shots or 0)
    lm_eval_name = f"{PREFIX}{info.name}" + (f"_{length}" if length is not None else "")
    config: dict[str, Any] = with_functions(raw)
    config.pop("tag", None)
    config["task"] = lm_eval_name
    if family.metrics_at is not None and length is not None:
        config["metric_list"] = family.metrics_at(config["metric_list"], length)
    return ResolvedTask(
        info=info,
        length=length,
        samples=spec["samples"],
        seed=spec["seed"],
        lm_eval_name=lm_eval_name,
        config=config,
    )


def _check_numbers(info: TaskInfo, **numbers: int | None) -> None:
    """Refuse numbers out of bounds, and more documents than anyone could wait for."""
    for field, value in numbers.items():
        if value is not None and (problem := number_problem(field, value)):
            raise TaskError(f"task {info.name!r}: {field} {problem}")
    samples, length = numbers["samples"] or info.samples, numbers["length"]
    if info.built_as.makes_documents and samples and length and samples * length > MOST_TOKENS:
        raise TaskError(
            f"task {info.name!r}: {samples:,} samples of {length:,} tokens are more than {MOST_TOKENS:,} tokens, which "
            "would take days to draw; ask for fewer"
        )


def _set_shots(raw: dict[str, Any], info: TaskInfo, shots: int) -> None:
    """Put the number of solved examples into a configuration; without any, what draws them is left out."""
    if shots and info.examples is None:
        raise TaskError(f"task {info.name!r} takes no solved examples in front of its question: leave shots at 0")
    if shots:
        raw["num_fewshot"] = shots
    elif info.examples is not None:
        raw["dataset_kwargs"]["spec"].pop("examples")
        raw.pop("fewshot_config")


def _parse_name(name: str) -> tuple[TaskInfo, int | None]:
    if own.is_file_name(name):
        return own.find(name)
    infos = {**shipped_tasks(), **own.known()}
    plain = name.removeprefix(PREFIX)
    if plain in infos:
        return infos[plain], None
    if (match := re.fullmatch(rf"(.+)[@_]({LENGTH})", plain)) and match[1] in infos:
        return infos[match[1]], int(match[2])
    known = [spelling for info in infos.values() for spelling in _spellings(info)]
    raise TaskError(
        f"unknown task {name!r}; {way_out(name, [*known, *infos], listed_by='python run_eval.py tasks list')}"
    )


def _spellings(info: TaskInfo) -> list[str]:
    return [f"{info.name}@{length}" for length in info.lengths] or [info.name]
