"""NVIDIA/RULER's present generator (`nvidia`), met byte for byte: a bisection with redraws decides one size for a file.

Tokens are those of the text without special tokens; `length` holds the prompt, its answer prefix and the generated
tokens, but no BOS.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np

from tasks.ruler import documents
from tasks.ruler.official.drawn import Count, Drawn, DrawnTask
from tasks.ruler.official.lists import CommonWords, FrequentWords
from tasks.ruler.official.needles import Needles
from tasks.ruler.official.questions import DocumentQuestions
from tasks.ruler.official.search import binary_size, shrinking_samples, too_short
from tasks.ruler.official.variables import Variables, nvidia_example
from tasks.ruler.spec import RulerSpec
from tasks.ruler.templates import FREQUENT_WORDS, QUESTION_SOURCES


def samples(spec: RulerSpec, count: Count) -> Iterator[tuple[Drawn, int]]:
    """The samples in order, each with its size, without end.

    Raises:
        TaskError: a length at which the original never ends or fails.
        DataNotStaged: essays or questions are not staged.
    """
    if spec.task == "fwe":
        return _frequent_words(spec, count)
    name = f"{spec.task}@{spec.length}"
    family: DrawnTask
    if spec.task == "cwe":
        family = _common_words(spec)
        size = binary_size(family, count, spec.length, first=4096, factor=2)
    elif spec.task == "vt":
        family = variables = _variables(spec)
        nvidia_example(variables, count)
        example, variables.example = variables.example, ""
        size = binary_size(family, count, spec.length, reserved=count(example))
        variables.example = example
    else:
        family = _family(spec)
        size = binary_size(family, count, spec.length)
    return shrinking_samples(family, count, spec.length, size, name=name)


def _family(spec: RulerSpec) -> DrawnTask:
    rng = random.Random(spec.seed)
    if spec.task in QUESTION_SOURCES:
        return DocumentQuestions(documents.load_questions(QUESTION_SOURCES[spec.task]), rng, seed=spec.seed)
    return Needles(spec.needles, rng, length=spec.length, seed=spec.seed, repeat_essays=True)


def _variables(spec: RulerSpec) -> Variables:
    step = 10 if spec.length >= 4096 else 5
    return Variables(random.Random(spec.seed), np.random.RandomState(spec.seed), step=step)


def _common_words(spec: RulerSpec) -> CommonWords:
    def shuffle(words: list[str]) -> None:
        random.Random(spec.seed).shuffle(words)

    return CommonWords(random.Random(spec.seed), length=spec.length, shuffle=shuffle)


def _frequent_words(spec: RulerSpec, count: Count) -> Iterator[tuple[Drawn, int]]:
    budget = spec.length - FREQUENT_WORDS.generated_tokens
    return frequent_words(spec, count, budget, shuffle_seed=spec.seed)


def frequent_words(spec: RulerSpec, count: Count, budget: int, *, shuffle_seed: int) -> Iterator[tuple[Drawn, int]]:
    """Frequent words within a budget of prompt tokens, which also decides the vocabulary and the step."""
    name, step = f"{spec.task}@{spec.length}", budget // 32
    if step < 1:
        raise too_short(name, 0)
    family = FrequentWords(random.Random(spec.seed), vocabulary_size=budget // 50, seed=shuffle_seed)
    family.new_vocabulary()
    size = budget // 6
    while count(family.drawn(size).prompt) < budget:
        size += step
    size -= step
    while True:
        family.new_vocabulary()
        used = size
        while count((drawn := family.drawn(used)).prompt) > budget:
            used -= step
            if used <= 0:
                raise too_short(name, count(drawn.prompt) + FREQUENT_WORDS.generated_tokens)
        yield drawn, used
