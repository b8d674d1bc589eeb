"""Needles in a haystack: what chance decides in a sample, and its prompt around any haystack."""

from __future__ import annotations

import random

from tasks.ruler import haystack, words
from tasks.ruler.haystack import Haystack, Stretch
from tasks.ruler.problem import HaystackProblem
from tasks.ruler.spec import Variant
from tasks.ruler.templates import DEPTHS, NEEDLE, listed, needle_template


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
        keys = words.draw_distinct(rng, variant.key, variant.needles, absent_from=absent_from)
        values = words.draw_distinct(rng, variant.value, variant.num_needles, absent_from=absent_from)
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
            return Stretch(haystack.Distractors(variant.key, variant.value, source, absent=[*keys, *values]), 0)

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
