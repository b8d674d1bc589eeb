"""Common words and frequent coded words as NVIDIA's scripts and lm-eval draw them.

Source of the algorithms: NVIDIA/RULER scripts/data/synthetic/common_words_extraction.py and freq_words_extraction.py.
"""

from __future__ import annotations

import math
import random
import string
from collections.abc import Callable

import numpy as np

from tasks.errors import TaskError
from tasks.ruler.official.drawn import Drawn
from tasks.ruler.templates import CODED_WORDS_ASKED, COMMON_WORDS, COMMON_WORDS_ASKED, FREQUENT_WORDS, numbered
from tasks.text.words import all_words

CODED_WORD_LENGTH = 6
ZETA_OF_2 = math.pi**2 / 6


class CommonWords:
    """Draws of common words: which ten of a numbered list occur most often."""

    step = 10
    generated_tokens = COMMON_WORDS.generated_tokens

    def __init__(
        self, rng: random.Random, *, length: int, shuffle: Callable[[list[str]], None], joined: str = " "
    ) -> None:
        """`shuffle` orders the words and each list; `joined` comes between the example's prompt and its answers."""
        self._rng = rng
        self._short = length < 4096
        self._shuffle = shuffle
        self._joined = joined
        self.words = list(all_words())
        shuffle(self.words)

    def ask(self, index: int) -> None:
        """Samples do not depend on their number."""

    def draw(self, size: int) -> Drawn:
        """A list of `size` distinct words behind a short example with its answers."""
        example, example_answers = self._list(20, 3, 1) if self._short else self._list(40, 10, 3)
        words, answers = self._list(size, 6, 1) if self._short else self._list(size, 30, 3)
        prefix = COMMON_WORDS.answer_prefix
        question = COMMON_WORDS.prompt.format(context=words) + prefix
        solved = COMMON_WORDS.prompt.format(context=example) + prefix + self._joined + numbered(example_answers)
        return Drawn(prompt=f"{solved}\n{question}", prefix=prefix, outputs=tuple(answers), measured=None)

    def _list(self, size: int, often: int, seldom: int) -> tuple[str, list[str]]:
        if size > len(self.words):
            raise TaskError(
                f"cwe: this length asks for {size} distinct words, and the word list has {len(self.words)}; NVIDIA's "
                "second list (english_words.json) is not shipped: use a shorter length, or the generator `exact`"
            )
        drawn = self._rng.sample(self.words, size)
        common, others = drawn[:COMMON_WORDS_ASKED], drawn[COMMON_WORDS_ASKED:]
        words = common * often + others * seldom
        self._shuffle(words)
        return numbered(words), common


class FrequentWords:
    """Texts of frequent words: which three coded words come most often, counts falling with the square of the rank."""

    def __init__(self, rng: random.Random, *, vocabulary_size: int, seed: int) -> None:
        self._rng = rng
        self._seed = seed
        self._vocabulary_size = vocabulary_size
        self.vocabulary: list[str] = []

    def new_vocabulary(self) -> None:
        """Draw other words."""
        words = [self._word() for _ in range(self._vocabulary_size)]
        while len(set(words)) < self._vocabulary_size:
            words.append(self._word())
        self.vocabulary = sorted(set(words))
        random.Random(self._seed).shuffle(self.vocabulary)
        self.vocabulary[0] = "..."

    def drawn(self, num_words: int) -> Drawn:
        """A text of about `num_words` words of the present vocabulary."""
        ranks = np.arange(1, len(self.vocabulary) + 1)
        counts = (num_words * (ranks**-2.0) / ZETA_OF_2).astype(int)
        words = [word for word, times in zip(self.vocabulary, counts, strict=True) for _ in range(times)]
        random.Random(self._seed).shuffle(words)
        prefix = FREQUENT_WORDS.answer_prefix
        return Drawn(
            prompt=FREQUENT_WORDS.prompt.format(context=" ".join(words)) + prefix,
            prefix=prefix,
            outputs=tuple(self.vocabulary[1 : CODED_WORDS_ASKED + 1]),
        )

    def _word(self) -> str:
        return "".join(self._rng.choices(string.ascii_lowercase, k=CODED_WORD_LENGTH))
