"""Documents of memory editing (generator `exact`).

A document states a value for each of its keys, then edits some of them, between sentences of a haystack, and asks one
key. A sample depends on (task, length, seed, index) only; `length` counts the context prefix, the whole model input and
the 48 generated tokens. `recall` is multi-query associative recall as Zoology defines it (arXiv:2312.04927): a block of
key-value pairs, later their keys one after the other, at distances that follow a power law.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tasks.documents import as_dataset
from tasks.editing.draws import EditDraw, draw
from tasks.editing.spec import EditSpec
from tasks.errors import TaskError
from tasks.subset import text_hash
from tasks.text import haystack
from tasks.text.planting import Planter, least_length
from tasks.text.tokenizers import load_tokenizer

if TYPE_CHECKING:
    import datasets

GENERATED_TOKENS = 48


def build(
    spec: Mapping[str, Any],
    *,
    tokenizer: Any = None,
    pretrained: str | None = None,
    context_prefix: str = "tokenizer",
    max_samples: int | None = None,
    **_lm_eval_metadata: Any,
) -> dict[str, datasets.Dataset]:
    """The documents of one memory-editing task, called by lm-eval with `dataset_kwargs` and its metadata.

    Args:
        spec: the fields of EditSpec; `lengths`, a list, instead of `length` gives the documents of all of them.
        tokenizer: folder or hub name of the tokenizer that fills the samples; by default `pretrained`.
        pretrained: the model's folder or hub name, as in lm-eval's model_args.
        context_prefix: which tokens come before the prompt: tokenizer | none | bos | eos | lm-eval.
        max_samples: draw only the first so many samples; the ones drawn are the same.

    Raises:
        TaskError: a wrong field, no tokenizer, or a length too short for the statements.
        DataNotStaged: the essays are not staged.
    """
    specs = EditSpec.parse_all(spec)
    source = tokenizer or pretrained
    if not source:
        raise TaskError(
            f"{specs[0].task}: samples are filled to the token and need a tokenizer: "
            'pass --metadata \'{"tokenizer": "PATH"}\' or a model with pretrained=PATH'
        )
    loaded = load_tokenizer(source) if isinstance(source, str) else source
    docs = []
    for parsed in specs:
        count = parsed.samples if max_samples is None else min(parsed.samples, max_samples)
        generator = EditGenerator(parsed, loaded, context_prefix=context_prefix)
        docs += [generator.sample(index) for index in range(count)]
    return {"test": as_dataset(docs)}


def make_generator(spec: Mapping[str, Any], tokenizer: Any, *, context_prefix: str = "tokenizer") -> EditGenerator:
    """The generator of a spec from YAML; raises TaskError that names a wrong field."""
    return EditGenerator(EditSpec.parse(spec), tokenizer, context_prefix=context_prefix)


class EditGenerator:
    """Makes the samples of one spec for one tokenizer."""

    def __init__(self, spec: EditSpec, tokenizer: Any, *, context_prefix: str = "tokenizer") -> None:
        self.spec = spec
        self._tokenizer = tokenizer
        self._context_prefix = context_prefix
        self._planter = Planter(
            haystack.load(spec.haystack),
            tokenizer,
            label=f"{spec.task}@{spec.length}",
            length=spec.length,
            generated_tokens=GENERATED_TOKENS,
            context_prefix=context_prefix,
        )

    def sample(self, index: int) -> dict[str, Any]:
        """Sample `index` as a document; raises TaskError if the length does not hold its statements."""
        drawn = draw(self.spec, index)
        if self._needed_by(drawn) > self.spec.length:
            raise self._too_short()
        frame, tail_tokens = drawn.frame(), self._tail_tokens(drawn)

        def place(lines: Sequence[str]) -> list[int]:
            return self._cuts(lines, drawn, tail_tokens)

        planted = self._planter.plant(frame, drawn.statements(), place, drawn.start_unit)
        question = len(planted.input) - (0 if self.spec.probe == "recall" else len(frame.tail) - 1)
        characters = [*planted.starts, planted.ends[drawn.anchor] - 1, question]
        *needles, end, asked_at = self._planter.positions(planted.prompt, characters)
        return drawn.facts() | {
            "input": planted.input,
            "gen_prefix": frame.answer_prefix,
            "prompt_tokens": planted.num_tokens,
            "fill": self._planter.fill_of(planted),
            "depth": list(planted.depths),
            "needle_tokens": needles,
            "distance": asked_at - end - 1,
            "sample_hash": text_hash(planted.prompt, *drawn.outputs()),
        }

    def check(self) -> None:
        """See that the length holds the statements and the distance of every sample, without making them."""
        if self._needed(self.spec.length) > self.spec.length:
            raise self._too_short()

    def behind(self, drawn: EditDraw) -> int:
        """Tokens of statements, or of queries that were answered before, between the anchor and the question."""
        if self.spec.probe == "recall":
            return self._planter.counter.count(drawn.frame().tail)
        return sum(map(self._planter.line_tokens, drawn.statements()[drawn.anchor + 1 :]))

    def _tail_tokens(self, drawn: EditDraw) -> int | None:
        """Tokens of haystack wanted behind the anchor; None where the statements are spread freely."""
        spec = self.spec
        if spec.distance is not None:
            return max(0, spec.distance - self.behind(drawn))
        if spec.probe != "recall":
            return None
        free = spec.length - self._planter.needed(drawn.frame(), drawn.statements())
        return max(0, round(power_law(drawn.gap, spec.power, free)) - self.behind(drawn))

    def _cuts(self, lines: Sequence[str], drawn: EditDraw, tail_tokens: int | None) -> list[int]:
        """The index of the line that follows each statement."""
        places, anchor, total = drawn.places, drawn.anchor, len(lines)
        if tail_tokens is None:
            return [int(place * (total + 1)) for place in places]
        pivot = total
        behind = 0
        while pivot > 0 and behind + (cost := self._planter.line_tokens(lines[pivot - 1])) / 2 <= tail_tokens:
            behind += cost
            pivot -= 1
        before = [int(place / (places[anchor] or 1.0) * pivot) for place in places[:anchor]]
        rest = 1 - places[anchor] or 1.0
        after = [pivot + int((place - places[anchor]) / rest * (total - pivot)) for place in places[anchor + 1 :]]
        return [*before, pivot, *after]

    def _needed_by(self, drawn: EditDraw) -> int:
        """The least length for this draw's statements and its distance."""
        least = self._planter.needed(drawn.frame(), drawn.statements())
        return least + max(0, (self.spec.distance or 0) - self.behind(drawn))

    def _needed(self, length: int) -> int:
        """The least length for every sample, if drawn for `length`."""
        spec = replace(self.spec, length=length)
        probe = EditGenerator(spec, self._tokenizer, context_prefix=self._context_prefix)
        return max(probe._needed_by(draw(spec, index)) for index in range(spec.samples))

    def _too_short(self) -> TaskError:
        spec = self.spec
        least = least_length(spec.length, self._needed)
        distance = f", a distance of {spec.distance} tokens" if spec.distance else ""
        return TaskError(
            f"{spec.task}@{spec.length}: too short for its statements{distance} and {GENERATED_TOKENS} generated "
            f"tokens with this tokenizer; the least length that works is {least}"
        )


def power_law(uniform: float, power: float, most: float) -> float:
    """A distance from 0 to `most` with density proportional to (distance + 1) ** (power - 1).

    Source: the gaps of Zoology's multiquery_ar (power_a), continuous here; `power` 1 is uniform.
    """
    return float((1 + uniform * ((most + 1) ** power - 1)) ** (1 / power) - 1)
