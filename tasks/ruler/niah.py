"""Needles in a haystack: what chance decides in a sample, and its prompt around any haystack."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from tasks.errors import TaskError
from tasks.ruler.problem import HaystackProblem
from tasks.ruler.spec import Variant
from tasks.ruler.templates import DEPTHS, NEEDLE, listed, needle_template
from tasks.text import haystack
from tasks.text.haystack import Haystack, Stretch
from tasks.text.kinds import SIMPLE, SimpleKind


class NeedleProblems:
    """The problems of one needle task."""

    def __init__(self, variant: Variant) -> None:
        self._variant = variant
        self._haystack: Haystack | None = None
        if variant.haystack != "needle":
            self._haystack = haystack.load(variant.haystack)

    def problem(self, index: int, rng: random.Random) -> HaystackProblem:  # noqa: ARG002
        """A draw of keys, values, depths, what is asked, and where the haystack begins."""
        variant = self._variant
        absent_from = self._haystack.lookalikes if self._haystack else ""
        keys = draw_items(rng, variant.key, variant.needles, absent_from=absent_from)
        values = draw_items(rng, variant.value, variant.num_needles, absent_from=absent_from)
        depths = sorted(rng.sample(DEPTHS, variant.num_needles))
        if variant.queries == 1:
            asked = [rng.randrange(variant.needles)]
        else:
            asked = rng.sample(range(variant.needles), variant.queries)
        start = rng.randrange(len(self._haystack.units)) if self._haystack else 0

        per_key = variant.values
        needles = [
            NEEDLE.format(kind=variant.value, key=keys[place // per_key], value=value)
            for place, value in enumerate(values)
        ]
        outputs = [value for key in asked for value in values[key * per_key : (key + 1) * per_key]]
        template = needle_template(len(outputs))
        kind = variant.value.removesuffix("s") if len(outputs) == 1 else variant.value
        query = listed([keys[key] for key in asked])
        prefix = template.answer_prefix.format(kind=kind, query=query)
        distractors = rng.getrandbits(64)

        def stretch() -> Stretch:
            if self._haystack:
                return Stretch(self._haystack, start)
            source = random.Random(distractors)
            return Stretch(NeedleDistractors(variant.key, variant.value, source, absent=[*keys, *values]), 0)

        def prompt(stretch: Stretch, lines: list[str]) -> str:
            context = stretch.context(needles, depths, lines)
            return template.prompt.format(kind=kind, query=query, context=context) + prefix

        return HaystackProblem(
            stretch=stretch,
            prompt=prompt,
            prefix=prefix,
            outputs=outputs,
            evidence=needles,
            depths=[depth / 100 for depth in depths],
            lines_before=lambda num_lines: [num_lines * depth // 100 for depth in depths],
            # The single-answer tasks in noise and essays keep the samples of their version 1.0.
            two=self._haystack is None or len(outputs) > 1,
            facts={
                "keys": keys,
                "values": values,
                "asked": asked[0] if len(asked) == 1 else asked,
                "query": query,
            },
        )


class NeedleDistractors:
    """Needles that nobody asks for, a line each, drawn one after the other; none holds what `absent` names."""

    joiner = "\n"

    def __init__(self, key: SimpleKind, value: SimpleKind, rng: random.Random, *, absent: Sequence[str]) -> None:
        self._kinds = key, value
        self._rng = rng
        self._absent = set(absent)
        self._drawn: list[list[str]] = []

    def pieces(self, unit: int) -> list[str]:
        """The words of a distractor, each with the separator before it."""
        while len(self._drawn) <= unit:
            key, value = (self._item(kind) for kind in self._kinds)
            needle = NEEDLE.format(kind=self._kinds[1], key=key, value=value)
            # A UUID is many tokens: it may end after any of its groups.
            self._drawn.append(re.findall(r"[\n ]?[^ -]+|-[^ -]+", self.joiner + needle))
        return self._drawn[unit]

    def _item(self, kind: SimpleKind) -> str:
        while (item := SIMPLE[kind](self._rng)) in self._absent:
            pass
        return item


def draw_items(rng: random.Random, kind: SimpleKind, count: int, *, absent_from: str) -> list[str]:
    """`count` different keys or values, none of which occurs in the text `absent_from`."""
    drawn: list[str] = []
    for _ in range(count * 1000):
        if len(drawn) == count:
            return drawn
        item = SIMPLE[kind](rng)
        if item not in absent_from and not any(item in other or other in item for other in drawn):
            drawn.append(item)
    raise TaskError(f"cannot draw {count} distinct {kind} that the haystack does not contain")
