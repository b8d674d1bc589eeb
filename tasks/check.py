"""Check a task's file: its fields, a few samples of each length as the model will see them, then a trial by lm-eval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import catalog, own
from tasks.errors import TaskError
from tasks.generators import find_generator
from tasks.info import TaskInfo
from tasks.needle.answerable import stop_in
from tasks.own_fields import STOP_BY_DEFAULT
from tasks.problems import Problem
from tasks.text.planting import join_prompt
from tasks.text.tokenizers import load_tokenizer
from tasks.trial import problem_of_trial

DRAWN_VALUES = 200
SPEC = ("dataset_kwargs", "spec")


@dataclass(frozen=True, kw_only=True)
class LengthCheck:
    """What the samples of one length are like."""

    length: int
    checked: int
    prompt_tokens: tuple[int, int]
    """The least and the most tokens of a prompt."""
    fill: tuple[float, float]
    needles: int
    occurrences: tuple[int, int]
    """How often an answer occurs in its prompt, least and most."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The outcome; `errors` are lines that begin with file, line and column."""

    file: Path
    errors: tuple[str, ...]
    info: TaskInfo | None = None
    lengths: tuple[LengthCheck, ...] = ()
    sample: dict[str, Any] | None = None
    """The first sample of the first length."""
    collisions: int | None = None
    """Of 200 drawn values, how many occur in the haystack and are drawn again; None where values are listed."""


def check_file(
    file: Path, tokenizer_path: str, *, samples: int = 3, length: int | None = None, context_prefix: str = "tokenizer"
) -> Report:
    """Everything that is wrong with a task's file, or a few of its samples.

    Args:
        file: the task's YAML.
        tokenizer_path: folder or hub name of the tokenizer that fills the samples.
        samples: how many samples to make at each length; that the length holds all of them is checked for all.
        length: check this one instead of the file's.
        context_prefix: which tokens come before the prompt: tokenizer | none | bos | eos | lm-eval.

    Raises:
        TaskError: a tokenizer that cannot be used.
        DataNotStaged: its data are not staged.
    """
    task = own.read(file)
    if task.problems:
        return Report(file=file, errors=tuple(task.lines()))
    info, _ = own.find(str(file))
    tokenizer = load_tokenizer(tokenizer_path)
    checks: list[LengthCheck] = []
    problems: list[Problem] = []
    sample: dict[str, Any] | None = None
    collisions = None
    for index, tokens in enumerate((length,) if length is not None else info.lengths):
        config = catalog.resolve(f"{file}@{tokens}").config
        try:
            generator: Any = find_generator(config, tokenizer, context_prefix=context_prefix)
            generator.check()
            docs = [generator.sample(i) for i in range(min(samples, info.samples or samples))]
        except TaskError as error:
            place = error.field or (("lengths", index) if "least length" in str(error) else ())
            problems.append(Problem((*SPEC, *place), str(error)))
            continue
        sample = sample or {**docs[0], "prompt": join_prompt(docs[0]["input"], docs[0]["gen_prefix"])}
        checks.append(_check_length(tokens, docs))
        problems += _stopped(config, docs)
        if collisions is None and hasattr(generator, "collisions"):
            collisions = generator.collisions(DRAWN_VALUES)
    if not problems:
        tokens = length if length is not None else info.lengths[0]
        found = problem_of_trial(catalog.resolve(f"{file}@{tokens}").config, tokenizer_path, context_prefix)
        problems += [found] if found else []
    lines = own.OwnTask(file, task.raw, tuple(dict.fromkeys(problems)), task.located).lines()
    return Report(
        file=file, errors=tuple(lines), info=info, lengths=tuple(checks), sample=sample, collisions=collisions
    )


def _stopped(config: Mapping[str, Any], docs: Sequence[Mapping[str, Any]]) -> list[Problem]:
    """A stop text that ends a right answer before its end, of retrieval tasks; one is enough to know the kind."""
    until = (config.get("generation_kwargs") or {}).get("until", STOP_BY_DEFAULT)
    for doc in docs:
        if "scoring" in doc and (found := stop_in(doc["outputs"], until, doc["scoring"])):
            message = f"stops the answer {found[0]!r} at {found[1]!r}, so that no model can be right: take another stop"
            return [Problem(("generation_kwargs", "until"), message)]
    return []


def _check_length(length: int, docs: Sequence[dict[str, Any]]) -> LengthCheck:
    prompts = [join_prompt(doc["input"], doc["gen_prefix"]).lower() for doc in docs]
    times = [
        prompt.count(answer.lower())
        for doc, prompt in zip(docs, prompts, strict=True)
        for answer in doc["outputs"]
        if doc.get("question") != "forget_withdrawn"
    ]
    return LengthCheck(
        length=length,
        checked=len(docs),
        prompt_tokens=(min(doc["prompt_tokens"] for doc in docs), max(doc["prompt_tokens"] for doc in docs)),
        fill=(min(doc["fill"] for doc in docs), max(doc["fill"] for doc in docs)),
        needles=len(docs[0].get("needle_tokens") or ()),
        occurrences=(min(times, default=0), max(times, default=0)),
    )
