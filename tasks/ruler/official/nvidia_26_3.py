"""The generator in the package nvidia-long-context-eval 26.3 (`nvidia-26.3`): NVIDIA's older one, searching linearly.

Tokens are those of the text without special tokens. All samples share one size; the few that do not fit fall by a step.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tasks.ruler import documents
from tasks.ruler.official import needles
from tasks.ruler.official.drawn import Count, Drawn
from tasks.ruler.official.lists import CommonWords
from tasks.ruler.official.needles import Needles
from tasks.ruler.official.nvidia import frequent_words
from tasks.ruler.official.questions import DocumentQuestions
from tasks.ruler.official.search import linear_size, shrinking_samples
from tasks.ruler.official.variables import EXAMPLE_BUDGET, EXAMPLE_STEP, Variables
from tasks.ruler.spec import RulerSpec
from tasks.ruler.templates import QUESTION_SOURCES, numbered


def samples(spec: RulerSpec, count: Count) -> Iterator[tuple[Drawn, int]]:
    """The samples in order, each with its size, without end.

    Raises:
        TaskError: a length at which the original never ends or fails.
        DataNotStaged: essays or questions are not staged.
    """
    if spec.task == "vt":
        return _variables(spec, count)
    if spec.task == "cwe":
        return _common_words(spec, count)
    if spec.task == "fwe":
        return frequent_words(spec, count, spec.length, shuffle_seed=spec.seed)
    if spec.task in QUESTION_SOURCES:
        return _questions(spec, count)
    return _needles(spec, count)


def with_listed_answers(drawn: Drawn) -> str:
    """The prompt and its answers as Python prints a list: what the searches for noise and documents count."""
    return f"{drawn.counted} {list(drawn.outputs)}"


def _needles(spec: RulerSpec, count: Count) -> Iterator[tuple[Drawn, int]]:
    rng = random.Random(spec.seed)
    family = Needles(spec.needles, rng, length=spec.length, seed=spec.seed, repeat_essays=False)
    size = linear_size(
        family,
        count,
        spec.length,
        lambda drawn: drawn.prompt + " ".join(drawn.outputs),
        start=family.step,
        most=needles.num_essay_words() if spec.needles.haystack == "essay" else None,
        probe_beyond=True,
    )
    return shrinking_samples(family, count, spec.length, size, name=f"{spec.task}@{spec.length}")


def _variables(spec: RulerSpec, count: Count) -> Iterator[tuple[Drawn, int]]:
    name = f"{spec.task}@{spec.length}"
    family = Variables(random.Random(spec.seed), np.random.RandomState(spec.seed), step=EXAMPLE_STEP, older=True)
    example = older_example(family, count, shrink=False)
    family.step = 10
    budget = spec.length - count(example)
    size = linear_size(family, count, budget, with_listed_answers, start=family.step)
    for drawn, used in shrinking_samples(family, count, budget, size, name=name, shrink=False):
        shown = family.renamed(example)
        yield replace(drawn, prompt=f" {shown}\n\n{drawn.prompt}"), used


def older_example(family: Variables, count: Count, *, shrink: bool) -> str:
    """The solved example, drawn as a task of 500 tokens with the same generation budget."""
    family.is_example = True
    size = linear_size(family, count, EXAMPLE_BUDGET, with_listed_answers, start=family.step)
    drawn, _ = next(shrinking_samples(family, count, EXAMPLE_BUDGET, size, name="vt: its example", shrink=shrink))
    family.is_example = False
    return family.solved(drawn, "\n\n")


def _common_words(spec: RulerSpec, count: Count) -> Iterator[tuple[Drawn, int]]:
    def shuffle(words: list[str]) -> None:
        random.Random(spec.seed).shuffle(words)

    family = CommonWords(random.Random(spec.seed), length=spec.length, shuffle=shuffle, joined="")
    size = linear_size(
        family,
        count,
        spec.length,
        lambda drawn: f"{drawn.prompt} {numbered(drawn.outputs)}",
        start=family.step,
        most=len(family.words),
    )
    return shrinking_samples(family, count, spec.length, size, name=f"{spec.task}@{spec.length}")


def _questions(spec: RulerSpec, count: Count) -> Iterator[tuple[Drawn, int]]:
    source = documents.load_questions(QUESTION_SOURCES[spec.task])
    family = DocumentQuestions(source, random.Random(spec.seed), seed=spec.seed, older=True)
    size = linear_size(family, count, spec.length, with_listed_answers, start=family.step, most=len(family.documents))
    return shrinking_samples(family, count, spec.length, size, name=f"{spec.task}@{spec.length}")
