"""What is wrong with the fields of a task's file that a user wrote; reads no data and needs no tokenizer."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from basis.names import way_out
from tasks import data, families
from tasks.errors import TaskError
from tasks.families import Family
from tasks.info import PREFIX
from tasks.limits import LONGEST_NAME, MAX_LENGTH
from tasks.problems import Problem, unknown_fields
from tasks.shipped import shipped_tasks
from tasks.task_files import FunctionName, functions_in, import_function

LM_EVAL_FIELDS = (
    *("task", "task_alias", "tag", "custom_dataset", "dataset_path", "dataset_name", "dataset_kwargs"),
    *("training_split", "validation_split", "test_split", "fewshot_split", "process_docs", "doc_to_text"),
    *("doc_to_target", "doc_to_image", "doc_to_audio", "unsafe_code", "doc_to_choice", "process_results"),
    *("use_prompt", "description", "target_delimiter", "fewshot_delimiter", "fewshot_config", "num_fewshot"),
    *("metric_list", "output_type", "generation_kwargs", "repeats", "filter_list", "should_decontaminate"),
    *("doc_to_decontamination_query", "gen_prefix", "metadata"),
)
"""What lm-eval's TaskConfig takes."""
STOP_BY_DEFAULT = "\n\n"
"""What lm-eval stops a text at whose `generation_kwargs` name no `until`: its `fewshot_delimiter`."""
KEPT: dict[str, Any] = {
    "output_type": "generate_until",
    "doc_to_text": "input",
    "gen_prefix": "{{gen_prefix}}",
    "target_delimiter": " ",
    "fewshot_delimiter": STOP_BY_DEFAULT,
    "test_split": "test",
    "description": "",
    "repeats": 1,
    "unsafe_code": False,
    "should_decontaminate": False,
    **dict.fromkeys(("dataset_path", "dataset_name", "training_split", "validation_split", "fewshot_split")),
    **dict.fromkeys(("use_prompt", "doc_to_choice", "doc_to_image", "doc_to_audio", "filter_list", "fewshot_config")),
}
"""What prompts are made and counted with, and answers scored by."""
FUNCTION_FIELDS = ("custom_dataset", "process_docs", "doc_to_target", "process_results")
GENERATION = ("until", "do_sample", "max_gen_toks", "temperature")
METADATA: tuple[tuple[str, type | tuple[type, ...], str], ...] = (
    ("version", (int, float), "a number"),
    ("description", str, "text"),
    ("data", list, "a list of staged files"),
    ("family", str, "text"),
    ("metric", str, "text"),
)
OF_A_RUN = {
    **dict.fromkeys(("length", "max_samples", "spec", "folder"), "write lengths and samples into dataset_kwargs.spec"),
    **dict.fromkeys(("tokenizer", "pretrained"), "a run fills documents for its model, or says --tokenizer"),
    "context_prefix": "a run says --context-prefix",
    "config_source": "leave it out",
}
"""Fields of `metadata` that lm-eval would hand to the documents' builder, past what a run and its record say."""
AGGREGATIONS = (
    *("mean", "nanmean", "median", "perplexity", "weighted_perplexity", "bits_per_byte", "f1", "matthews_corrcoef"),
    *("bleu", "chrf", "chrf++", "ter", "brier_score"),
)
"""lm-eval's own ways from documents' values to a score; `bypass` makes 999 of any."""
METRIC: tuple[tuple[str, type, str], ...] = (
    ("metric", str, "text"),
    ("aggregation", str, "text"),
    ("higher_is_better", bool, "true or false"),
)
"""What an entry of `metric_list` has; lm-eval passes over anything else where there is a scoring function."""


def problems_of(raw: Mapping[str, Any], file: Path) -> list[Problem]:
    """Everything that is wrong with the merged fields of a file, with the path of each field."""
    problems = unknown_fields(raw, LM_EVAL_FIELDS) + _name(raw.get("task"))
    if not isinstance(raw.get("dataset_kwargs"), Mapping) or "spec" not in raw["dataset_kwargs"]:
        message = "must be a mapping with 'spec'; a task of lm-eval's own form is run by gdn2-lm-eval --include_path"
        return [*problems, Problem(("dataset_kwargs",), message)]
    others = [str(name) for name in raw["dataset_kwargs"] if name != "spec"]
    problems += [Problem(("dataset_kwargs", name), "unknown field; 'spec' stands there alone") for name in others]
    problems += _kept(raw) + _functions(raw) + _metadata(raw)
    builder = str(raw.get("custom_dataset", ""))
    family = families.built_by(builder)
    if family is None:
        message = f"{builder or 'missing'}: not a family of this project; include tasks/needle/_base.yaml"
        return [*problems, Problem(("custom_dataset",), message)]
    if raw.get("num_fewshot"):
        message = "documents fill their length, so there is no room for solved examples: leave it out"
        problems.append(Problem(("num_fewshot",), message))
    problems += [problem.below("dataset_kwargs", "spec") for problem in _spec(family, raw, file)]
    return problems + _generation(family, raw) + ([] if problems else _metrics(family, raw))


def _name(task: Any) -> list[Problem]:
    if not isinstance(task, str) or not re.fullmatch(r"\w+", task):
        return [Problem(("task",), f"must be a name of letters, digits and _, got {task!r}")]
    if len(task) > LONGEST_NAME:
        return [Problem(("task",), f"has {len(task)} characters; at most {LONGEST_NAME} are taken")]
    if task in shipped_tasks() or task.removeprefix(PREFIX) in shipped_tasks():
        return [Problem(("task",), f"{task!r} is a task of this project; give yours another name")]
    return []


def _kept(raw: Mapping[str, Any]) -> list[Problem]:
    """Fields that documents are counted with."""
    return [
        Problem((name,), f"is {raw[name]!r}, but prompts are made and counted with {value!r}: leave it out")
        for name, value in KEPT.items()
        if name in raw and raw[name] != value
    ]


def _functions(raw: Mapping[str, Any]) -> list[Problem]:
    problems = []
    for trail, function in functions_in(raw):
        if trail[0] not in FUNCTION_FIELDS and (trail[0], *trail[2:]) != ("metric_list", "aggregation"):
            problems.append(Problem(trail, f"takes no function, got !function {function}"))
            continue
        try:
            import_function(function)
        except TaskError as error:
            problems.append(Problem(trail, str(error)))
    for name in ("process_docs", "process_results"):
        if name in raw and not isinstance(raw[name], FunctionName):
            problems.append(Problem((name,), f"must be a function, such as !function FILE.NAME, got {raw[name]!r}"))
    return problems


def _metadata(raw: Mapping[str, Any]) -> list[Problem]:
    problems = [
        Problem((name,), f"must be a mapping of fields, got {raw[name]!r}")
        for name in ("metadata", "generation_kwargs")
        if not isinstance(raw.get(name) or {}, Mapping)
    ]
    metadata = raw.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        return problems
    for name, kinds, shape in METADATA:
        value = metadata.get(name)
        if name in metadata and (not isinstance(value, kinds) or isinstance(value, bool)):
            problems.append(Problem(("metadata", name), f"must be {shape}, got {value!r}"))
        elif isinstance(value, float) and not math.isfinite(value):
            problems.append(Problem(("metadata", name), f"must be finite, got {value!r}"))
    problems += [
        Problem(("metadata", name), f"would choose documents that a record does not tell of; {OF_A_RUN[name]}")
        for name in metadata
        if name in OF_A_RUN
    ]
    listed = metadata.get("data")
    known = data.sources()["files"] if listed else {}
    for index, name in enumerate(listed if isinstance(listed, list) else ()):
        if not isinstance(name, str) or name not in known:
            problems.append(Problem(("metadata", "data", index), f"no staged file {name!r}; {way_out(name, known)}"))
    return problems


def _spec(family: Family, raw: Mapping[str, Any], file: Path) -> list[Problem]:
    spec = raw["dataset_kwargs"]["spec"]
    if not isinstance(spec, Mapping):
        return [Problem((), f"must be a mapping of fields, got {spec!r}")]
    problems = []
    if "task" in spec and spec["task"] != raw.get("task"):
        problems.append(Problem(("task",), f"{spec['task']!r} is not the file's task, {raw.get('task')!r}"))
    return problems + (family.problems_of(spec, file.parent) if family.problems_of else [])


def _generation(family: Family, raw: Mapping[str, Any]) -> list[Problem]:
    """The model generates greedily, up to stops that are texts, as many tokens as the spec leaves room for."""
    spec, generation = raw["dataset_kwargs"]["spec"], raw.get("generation_kwargs") or {}
    if not isinstance(generation, Mapping):
        return []
    problems = unknown_fields(generation, GENERATION)
    until, tokens = generation.get("until", []), generation.get("max_gen_toks", 1)
    if not isinstance(until, str) and not (isinstance(until, list) and all(isinstance(stop, str) for stop in until)):
        problems.append(Problem(("until",), f'must be a text or a list of texts, such as ["\\n"], got {until!r}'))
    elif "" in ([until] if isinstance(until, str) else until):
        problems.append(
            Problem(
                ("until",),
                f"has an empty text, at which HFLM ends every text behind its first token: write [], got {until!r}",
            )
        )
    if type(tokens) is not int or not 1 <= tokens <= MAX_LENGTH:
        problems.append(Problem(("max_gen_toks",), f"must be a whole number from 1 to {MAX_LENGTH}, got {tokens!r}"))
    for name in ("do_sample", "temperature"):
        if generation.get(name):
            message = f"is {generation[name]!r}, but the model generates greedily only: leave it out"
            problems.append(Problem((name,), message))
    wanted = family.generated_tokens(spec if isinstance(spec, Mapping) else {}) if family.generated_tokens else None
    given = generation.get("max_gen_toks")
    if family.generated_tokens and given != wanted and not problems:
        message = f"is {given}, but the spec's generated_tokens is {wanted}: write the same number in both"
        problems.append(Problem(("max_gen_toks",), message))
    return [problem.below("generation_kwargs") for problem in problems]


def _metrics(family: Family, raw: Mapping[str, Any]) -> list[Problem]:
    """The metrics that lm-eval is told are those that the scoring gives, each a mean."""
    given = raw.get("metric_list")
    if not isinstance(given, list) or not given or any(not isinstance(entry, Mapping) for entry in given):
        return [Problem(("metric_list",), f"must be a list such as [{_metric_entry('acc')}], got {given!r}")]
    wanted = family.file_metrics(raw) if family.file_metrics else None
    if wanted is None:
        return _own_metrics(given)
    complete = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in wanted]
    if sorted(map(str, given)) == sorted(map(str, complete)):
        return []
    listed = ", ".join(map(_metric_entry, wanted))
    return [Problem(("metric_list",), f"is not what the spec's scoring gives; write metric_list: [{listed}]")]


def _own_metrics(given: list[Mapping[str, Any]]) -> list[Problem]:
    """The metrics of a scoring function of the user's own, of which only the form is known."""
    problems, known = list[Problem](), [name for name, _, _ in METRIC]
    for index, entry in enumerate(given):
        problems += [problem.below("metric_list", index) for problem in unknown_fields(entry, known)]
        for name, kind, shape in METRIC:
            if name not in entry:
                problems.append(Problem(("metric_list", index), f"lacks the field {name!r}"))
            elif not isinstance(entry[name], kind):
                problems.append(Problem(("metric_list", index, name), f"must be {shape}, got {entry[name]!r}"))
        way = entry.get("aggregation")
        if isinstance(way, str) and not isinstance(way, FunctionName) and way not in AGGREGATIONS:
            message = f"lm-eval has no aggregation {way!r}; {way_out(way, AGGREGATIONS)}"
            problems.append(Problem(("metric_list", index, "aggregation"), message))
        if entry.get("metric") in [other.get("metric") for other in given[:index]]:
            problems.append(Problem(("metric_list", index, "metric"), f"{entry.get('metric')!r} is listed twice"))
    return problems


def _metric_entry(name: str) -> str:
    return f"{{metric: {name}, aggregation: mean, higher_is_better: true}}"
