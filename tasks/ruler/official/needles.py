"""Needles as NVIDIA's scripts and lm-eval draw them: keys, values, distractors and depths in their order of draws.

Source of the algorithm: NVIDIA/RULER scripts/data/synthetic/niah.py; the older generator and lm-eval draw the same.
"""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from tasks import data
from tasks.ruler.official.drawn import Drawn, between
from tasks.ruler.spec import Variant
from tasks.ruler.templates import DEPTHS, NEEDLE, listed, needle_template
from tasks.text import sentences
from tasks.text.haystack import NOISE
from tasks.text.kinds import SimpleKind
from tasks.text.words import word_pairs


class Needles:
    """Draws of one needle task."""

    def __init__(self, variant: Variant, rng: random.Random, *, length: int, seed: int, repeat_essays: bool) -> None:
        self._variant = variant
        self._rng = rng
        self._seed = seed
        self._repeat = repeat_essays
        self._template = needle_template(variant.num_answers)
        self.step = 500 if variant.haystack == "essay" else 25 if length >= 4096 else 5
        self.generated_tokens = self._template.generated_tokens

    def ask(self, index: int) -> None:
        """Needle samples do not depend on their number."""

    def draw(self, size: int) -> Drawn:
        """A sample with `size` essay words, noise blocks or distractors."""
        rng, variant = self._rng, self._variant
        keys: list[str] = []
        values: list[list[str]] = []
        for _ in range(variant.needles):
            keys.append(self._item(variant.key))
            values.append([self._item(variant.value) for _ in range(variant.values)])
        needles = [self._needle(key, value) for key, group in zip(keys, values, strict=True) for value in group]
        random.Random(self._seed).shuffle(needles)
        context = self._essay(size, needles) if variant.haystack == "essay" else self._lines(size, needles)
        asked = rng.sample(range(len(keys)), variant.queries)
        query = listed([keys[index] for index in asked])
        outputs = tuple(value for index in asked for value in values[index])
        kind = variant.value.removesuffix("s") if len(outputs) == 1 else variant.value
        prefix = self._template.answer_prefix.format(kind=kind, query=query)
        return Drawn(
            prompt=self._template.prompt.format(kind=kind, query=query, context=context) + prefix,
            prefix=prefix,
            outputs=outputs,
            evidence=tuple(needles),
            facts={"keys": keys, "values": [value for group in values for value in group], "query": query},
        )

    def _essay(self, size: int, needles: list[str]) -> str:
        split = _essay_sentences(data.path("essays.json"), size, self._repeat)
        depths = self._rng.sample(DEPTHS, len(needles))
        cuts = sorted(int(len(split) * (depth / 100)) for depth in depths)
        return " ".join(between(split, cuts, needles))

    def _lines(self, size: int, needles: list[str]) -> str:
        variant = self._variant
        if variant.haystack == "noise":
            lines = [NOISE] * size
        else:
            lines = [self._needle(self._item(variant.key), self._item(variant.value)) for _ in range(size)]
        places = sorted(self._rng.sample(range(size), len(needles)), reverse=True)
        for place, needle in zip(places, needles, strict=True):
            lines.insert(place, needle)
        return "\n".join(lines)

    def _needle(self, key: str, value: str) -> str:
        return NEEDLE.format(kind=self._variant.value, key=key, value=value)

    def _item(self, kind: SimpleKind) -> str:
        if kind == "numbers":
            return str(self._rng.randint(10**6, 10**7 - 1))
        if kind == "uuids":
            return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        return self._rng.choice(word_pairs())


def num_essay_words() -> int:
    """Words of the essays, as the generators split them."""
    return len(_essay_words(data.path("essays.json")))


@lru_cache(maxsize=16)
def _essay_sentences(file: Path, num_words: int, repeat: bool) -> list[str]:
    found = list(_essay_words(file))
    if num_words > len(found) and repeat:
        found *= -(-num_words // len(found))
    return sentences.split(" ".join(found[:num_words]).strip())


@lru_cache(maxsize=2)
def _essay_words(_file: Path) -> Sequence[str]:
    """Split at single spaces, so that there is an empty word where the text ends in white space."""
    return re.sub(r"\s+", " ", data.essays_text()).split(" ")
