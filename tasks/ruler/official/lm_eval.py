"""What lm-eval 0.4.13 would ask (`lm-eval`): its port of NVIDIA's older generator, with the port's own changes.

As if the task at this length were the only one of a run: lm-eval seeds Python's generator once (with 0 by default) and
numpy's with 1234, and all its tasks and lengths share them. Tokens include the tokenizer's special tokens; the answer
prefix of needles and questions is not counted, so their prompts can exceed the length. lm-eval reads other essays (each
joined to the next by a space, from the hub); here the staged ones are taken.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from tasks.ruler import documents
from tasks.ruler.official import needles
from tasks.ruler.official.drawn import Count, Drawn, DrawnTask
from tasks.ruler.official.lists import CommonWords
from tasks.ruler.official.needles import Needles
from tasks.ruler.official.nvidia import frequent_words
from tasks.ruler.official.nvidia_26_3 import older_example, with_listed_answers
from tasks.ruler.official.questions import DocumentQuestions
from tasks.ruler.official.search import linear_size, shrinking_samples
from tasks.ruler.official.variables import EXAMPLE_STEP, Variables
from tasks.ruler.spec import RulerSpec
from tasks.ruler.templates import COMMON_WORDS, QUESTION_SOURCES, numbered

SHUFFLE_SEED = 42
NUMPY_SEED = 1234


def samples(spec: RulerSpec, count: Count) -> Iterator[tuple[Drawn | None, int]]:
    """The samples in order, each with its size, without end; None for one that lm-eval drops because it never fits.

    Raises:
        TaskError: a length at which the original never ends or fails.
        DataNotStaged: essays or questions are not staged.
    """
    if spec.task == "vt":
        return _variables(spec, count)
    if spec.task == "cwe":
        return _common_words(spec, count)
    if spec.task == "fwe":
        return frequent_words(spec, count, spec.length, shuffle_seed=SHUFFLE_SEED)
    if spec.task in QUESTION_SOURCES:
        return _questions(spec, count)
    return _needles(spec, count)


class _WithoutPrefix:
    """A family whose answer prefix is not counted."""

    def __init__(self, family: DrawnTask) -> None:
        self._family = family
        self.step = family.step
        self.generated_tokens = family.generated_tokens

    def ask(self, index: int) -> None:
        """As the family."""
        self._family.ask(index)

    def draw(self, size: int) -> Drawn:
        """As the family."""
        drawn = self._family.draw(size)
        return replace(drawn, measured=drawn.prompt[: -len(drawn.prefix)])


def _needles(spec: RulerSpec, count: Count) -> Iterator[tuple[Drawn | None, int]]:
    rng = random.Random(spec.seed)
    family = _WithoutPrefix(Needles(spec.needles, rng, length=spec.length, seed=SHUFFLE_SEED, repeat_essays=False))
    num_needles = spec.needles.num_needles
    size = linear_size(
        family,
        count,
        spec.length,
        lambda drawn: drawn.counted + " ".join(drawn.outputs),
        start=max(family.step, num_needles),
        most=needles.num_essay_words() if spec.needles.haystack == "essay" else None,
        probe_beyond=True,
    )
    size = max(size, num_needles)
    while True:
        yield _first_that_fits(family, count, spec.length, range(size, 0, -family.step))


def _questions(spec: RulerSpec, count: Count) -> Iterator[tuple[Drawn | None, int]]:
    source = documents.load_questions(QUESTION_SOURCES[spec.task])
    inner = DocumentQuestions(source, random.Random(spec.seed), seed=SHUFFLE_SEED, older=True, at_least_gold=True)
    family = _WithoutPrefix(inner)
    size = linear_size(family, count, spec.length, with_listed_answers, start=family.step, most=len(inner.documents))
    size = max(size, 1)
    for index in range(len(source.questions)):
        family.ask(index)
        least = inner.num_gold
        sizes = [*range(max(size, least), least, -family.step), least]
        yield _first_that_fits(family, count, spec.length, sizes)


def _first_that_fits(family: DrawnTask, count: Count, length: int, sizes: Iterable[int]) -> tuple[Drawn | None, int]:
    for size in sizes:
        try:
            drawn = family.draw(size)
        except ValueError:
            continue
        if count(drawn.counted) + family.generated_tokens <= length:
            return drawn, size
    return None, 0


def _variables(spec: RulerSpec, count: Count) -> Iterator[tuple[Drawn, int]]:
    family = Variables(random.Random(spec.seed), np.random.RandomState(NUMPY_SEED), step=EXAMPLE_STEP, older=True)
    example = older_example(family, count, shrink=True)
    family.step = 10
    budget = spec.length - count(example)
    size = linear_size(family, count, budget, with_listed_answers, start=family.step)
    for drawn, used in shrinking_samples(family, count, budget, size, name=f"{spec.task}@{spec.length}"):
        prompt = f"{family.renamed(example)}\n\n{drawn.prompt}".rstrip()
        yield replace(drawn, prompt=prompt, prefix=drawn.prefix.rstrip()), used


def _common_words(spec: RulerSpec, count: Count) -> Iterator[tuple[Drawn, int]]:
    """The model sees no example: lm-eval puts it in a field that no prompt uses, after counting it in its search."""
    shuffle = random.Random(SHUFFLE_SEED).shuffle
    family = _QuestionAlone(random.Random(spec.seed), length=spec.length, shuffle=shuffle, joined="")
    size = linear_size(
        family,
        count,
        spec.length,
        lambda drawn: f"{drawn.prompt} {numbered(drawn.outputs)}",
        start=family.step,
        most=len(family.words),
    )
    for drawn, used in shrinking_samples(family, count, spec.length, size, name=f"{spec.task}@{spec.length}"):
        prefix = "\n\n" + COMMON_WORDS.answer_prefix.strip()
        prompt = drawn.counted[: -len(drawn.prefix)].strip() + prefix
        yield replace(drawn, prompt=prompt, prefix=prefix), used


class _QuestionAlone(CommonWords):
    """Common words whose example is not counted in samples."""

    def draw(self, size: int) -> Drawn:
        """As CommonWords."""
        drawn = super().draw(size)
        start = drawn.prompt.rindex("\n" + COMMON_WORDS.prompt.split("\n")[0]) + 1
        return replace(drawn, measured=drawn.prompt[start:])
