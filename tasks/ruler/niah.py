"""Needles in a haystack, RULER's templates, filled to the token (generator `exact`).

A sample depends on (task, length, seed, index) only, never on other samples, tasks or limits; the tokenizer decides how
many haystack words fit. `length` counts the context prefix, the whole model input and the 128 generated tokens.
Templates, depths and kinds follow NVIDIA/RULER scripts/data/synthetic (Apache-2.0); the generator is our own.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tasks.errors import TaskError
from tasks.ruler import haystack, words
from tasks.ruler.fill import EXTRA_WORDS, fill
from tasks.ruler.haystack import Haystack, Stretch
from tasks.ruler.spec import DEPTHS, NiahSpec
from tasks.subset import text_hash
from tasks.tokenizers import TokenCounter, load_tokenizer, prefix_ids

if TYPE_CHECKING:
    import datasets  # type: ignore[import-untyped]

GENERATED_TOKENS = 128
MIN_HAYSTACK_TOKENS = 16
MIN_FILL = 0.98
NEEDLE = "One of the special magic {kind} for {key} is: {value}."
INPUT = (
    "A special magic {kind} is hidden within the following text. Make sure to memorize it. "
    "I will quiz you about the {kind} afterwards.\n{context}\n"
    "What is the special magic {kind} for {key} mentioned in the provided text?"
)
ANSWER_PREFIX = "The special magic {kind} for {key} mentioned in the provided text is"


def build(
    spec: Mapping[str, Any],
    *,
    tokenizer: Any = None,
    pretrained: str | None = None,
    context_prefix: str = "tokenizer",
    max_samples: int | None = None,
    **_lm_eval_metadata: Any,
) -> dict[str, datasets.Dataset]:
    """The documents of one needle task, called by lm-eval with `dataset_kwargs` and its metadata.

    Args:
        spec: the fields of NiahSpec, and those of Variant for a task of one's own.
        tokenizer: folder or hub name of the tokenizer that fills the samples; by default `pretrained`.
        pretrained: the model's folder or hub name, as in lm-eval's model_args.
        context_prefix: what stands before the prompt: tokenizer | none | bos | eos.
        max_samples: draw only the first so many samples; the ones drawn are the same.

    Raises:
        TaskError: a wrong field, no tokenizer, or a length too short for the template.
        DataNotStaged: the essays are not staged.
    """
    import datasets

    parsed = NiahSpec.parse(spec)
    source = tokenizer or pretrained
    if not source:
        raise TaskError(
            f"{parsed.task}: samples are filled to the token and need a tokenizer: "
            'pass --metadata \'{"tokenizer": "PATH"}\' or a model with pretrained=PATH'
        )
    loaded = load_tokenizer(source) if isinstance(source, str) else source
    count = parsed.samples if max_samples is None else min(parsed.samples, max_samples)
    generator = Generator(parsed, loaded, context_prefix=context_prefix)
    return {"test": datasets.Dataset.from_list([generator.sample(index) for index in range(count)])}


def make_generator(spec: Mapping[str, Any], tokenizer: Any, *, context_prefix: str = "tokenizer") -> Generator:
    """The generator of a spec from YAML; raises TaskError that names a wrong field."""
    return Generator(NiahSpec.parse(spec), tokenizer, context_prefix=context_prefix)


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """What chance decides in one sample, before any token is counted."""

    keys: tuple[str, ...]
    values: tuple[str, ...]
    depths: tuple[int, ...]
    """Percent, ascending; needle i lies at depth i."""
    asked: int
    start_unit: int


class Generator:
    """Draws the samples of one spec for one tokenizer."""

    def __init__(self, spec: NiahSpec, tokenizer: Any, *, context_prefix: str = "tokenizer") -> None:
        self.spec = spec
        self._tokenizer = tokenizer
        self._context_prefix = context_prefix
        self._haystack: Haystack = haystack.load(spec.variant.haystack)
        self._counter = TokenCounter(tokenizer)
        self._prefix_tokens = len(prefix_ids(tokenizer, context_prefix))
        self._kind = spec.variant.value.removesuffix("s")

    def sample(self, index: int) -> dict[str, Any]:
        """Sample `index` as a document; raises TaskError if the length does not hold the template."""
        draw = self.draw(index)
        budget = self.spec.length - GENERATED_TOKENS - self._prefix_tokens
        stretch = Stretch(self._haystack, draw.start_unit)
        frame_tokens = self._frame_tokens(draw)
        if frame_tokens + MIN_HAYSTACK_TOKENS > budget:
            raise self._too_short()
        needles = self._needles(draw)

        def text(num_words: int, omitted: Sequence[int]) -> str:
            lines = stretch.lines(num_words, omitted)
            return self._input(draw, stretch.context(needles, draw.depths, lines))

        found = fill(
            costs=self._costs(stretch, budget - frame_tokens),
            unit_starts=stretch.unit_starts,
            frame_tokens=frame_tokens,
            budget=budget,
            measure=lambda num_words, omitted: self._counter.count(f"{text(num_words, omitted)} {self._prefix(draw)}"),
        )
        num_tokens = self._prefix_tokens + (found.num_tokens if found else 0)
        if found is None or (num_tokens + GENERATED_TOKENS) / self.spec.length <= MIN_FILL:
            raise TaskError(
                f"{self.spec.task}@{self.spec.length}: sample {index} stops at {num_tokens} prompt tokens; this "
                "tokenizer's words are too coarse for this length: use a longer one"
            )
        return self._document(index, draw, text(found.num_words, found.omitted), num_tokens)

    def check(self) -> None:
        """See that the length holds the template of every sample, without making them; raises TaskError if not."""
        room = self.spec.length - GENERATED_TOKENS - self._prefix_tokens - MIN_HAYSTACK_TOKENS
        if any(self._frame_tokens(self.draw(index)) > room for index in range(self.spec.samples)):
            raise self._too_short()

    def draw(self, index: int) -> Draw:
        """Everything random about sample `index`."""
        spec, variant = self.spec, self.spec.variant
        identity = f"{spec.task}|{spec.length}|{spec.seed}|{index}"
        rng = random.Random(hashlib.sha256(identity.encode()).digest())
        absent_from = self._haystack.lookalikes
        keys = words.draw_distinct(rng, variant.key, variant.needles, absent_from=absent_from)
        values = words.draw_distinct(rng, variant.value, variant.needles, absent_from=absent_from)
        return Draw(
            keys=tuple(keys),
            values=tuple(values),
            depths=tuple(sorted(rng.sample(DEPTHS, variant.needles))),
            asked=rng.randrange(variant.needles),
            start_unit=rng.randrange(len(self._haystack.units)),
        )

    def _costs(self, stretch: Stretch, wanted_tokens: int) -> list[int]:
        """Estimated tokens of the stretch's words, until there are more words than can be needed."""
        costs: list[int] = []
        total = spare = 0
        while spare < EXTRA_WORDS and len(costs) < 2 * self.spec.length + 10 * EXTRA_WORDS:
            for piece in stretch.extend():
                costs.append(self._counter.word_cost(piece))
                total += costs[-1]
                spare += total > wanted_tokens + MIN_HAYSTACK_TOKENS
        return costs

    def _needles(self, draw: Draw) -> list[str]:
        kind = self.spec.variant.value
        return [
            NEEDLE.format(kind=kind, key=key, value=value) for key, value in zip(draw.keys, draw.values, strict=True)
        ]

    def _input(self, draw: Draw, context: str) -> str:
        return INPUT.format(kind=self._kind, key=draw.keys[draw.asked], context=context)

    def _prefix(self, draw: Draw) -> str:
        return ANSWER_PREFIX.format(kind=self._kind, key=draw.keys[draw.asked])

    def _frame_tokens(self, draw: Draw) -> int:
        context = self._haystack.joiner.join(self._needles(draw))
        return self._counter.count(f"{self._input(draw, context)} {self._prefix(draw)}")

    def _too_short(self) -> TaskError:
        """Keys depend on the length, so the least length is searched upwards until all samples fit."""
        spec, length = self.spec, self.spec.length
        while True:
            probe = Generator(replace(spec, length=length), self._tokenizer, context_prefix=self._context_prefix)
            frame_tokens = max(probe._frame_tokens(probe.draw(index)) for index in range(spec.samples))
            needed = frame_tokens + MIN_HAYSTACK_TOKENS + GENERATED_TOKENS + self._prefix_tokens
            if needed <= length:
                break
            length = needed
        return TaskError(
            f"{spec.task}@{spec.length}: too short for the template and {GENERATED_TOKENS} generated tokens with this "
            f"tokenizer; the least length that works is {length}"
        )

    def _document(self, index: int, draw: Draw, text: str, num_tokens: int) -> dict[str, Any]:
        spec = self.spec
        prefix, outputs = self._prefix(draw), [draw.values[draw.asked]]
        prompt = f"{text} {prefix}"
        starts = [text.index(needle) for needle in self._needles(draw)]
        return {
            "input": text,
            "gen_prefix": prefix,
            "outputs": outputs,
            "task": spec.task,
            "length": spec.length,
            "prompt_tokens": num_tokens,
            "fill": (num_tokens + GENERATED_TOKENS) / spec.length,
            "depth": [depth / 100 for depth in draw.depths],
            "needle_tokens": [self._prefix_tokens + p for p in self._counter.positions(prompt, starts)],
            "keys": list(draw.keys),
            "values": list(draw.values),
            "asked": draw.asked,
            "query": draw.keys[draw.asked],
            "index": index,
            "seed": spec.seed,
            "generator": "exact",
            "sample_hash": text_hash(prompt, *outputs),
        }
