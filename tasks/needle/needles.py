"""Documents of YAML retrieval tasks (generator `exact`): needles in a haystack, then a question, as the spec says.

A sample depends on (task, length, seed, index) only; its answers occur in the prompt exactly once, which is checked.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import data
from tasks.documents import as_dataset
from tasks.errors import TaskError
from tasks.needle import sources
from tasks.needle.answerable import refuse_repetition, refuse_unanswerable
from tasks.needle.spec import NeedleSpec, lengths_of
from tasks.subset import text_hash
from tasks.text.kinds import Corpus, Kind, draw_distinct
from tasks.text.planting import Frame, Planter, least_length
from tasks.text.tokenizers import load_tokenizer

if TYPE_CHECKING:
    import datasets


def build(
    spec: Mapping[str, Any],
    *,
    folder: str | None = None,
    tokenizer: Any = None,
    pretrained: str | None = None,
    context_prefix: str = "tokenizer",
    length: int | None = None,
    max_samples: int | None = None,
    config_source: str = "inline",
    **_lm_eval_metadata: Any,
) -> dict[str, datasets.Dataset]:
    """The documents of one task, called by lm-eval with `dataset_kwargs` and its metadata.

    Args:
        spec: the fields of NeedleSpec; with `lengths`, all of them, unless `length` chooses one.
        folder: what the spec's files are relative to; by default the folder of lm-eval's YAML, else the current one.
        tokenizer: folder or hub name of the tokenizer that fills the samples; by default `pretrained`.
        pretrained: the model's folder or hub name, as in lm-eval's model_args.
        context_prefix: which tokens come before the prompt: tokenizer | none | bos | eos | lm-eval.
        length: the only one of the spec's lengths that is wanted; by default all of them.
        max_samples: draw only the first so many samples of each length; the ones drawn are the same.
        config_source: the YAML file that lm-eval read, or `inline`.

    Raises:
        TaskError: a wrong field, no tokenizer, a length too short for the templates, or a value in the haystack.
        DataNotStaged: the essays are not staged.
    """
    source = tokenizer or pretrained
    if not source:
        raise TaskError(
            f"{spec.get('task')}: samples are filled to the token and need a tokenizer: "
            'pass --metadata \'{"tokenizer": "PATH"}\' or a model with pretrained=PATH'
        )
    home = Path(folder) if folder else Path() if config_source == "inline" else Path(config_source).parent
    loaded = load_tokenizer(source) if isinstance(source, str) else source
    docs = []
    for each in (length,) if length is not None else lengths_of(spec):
        parsed = NeedleSpec.parse({**spec, "length": each}, home)
        count = parsed.samples if max_samples is None else min(parsed.samples, max_samples)
        made = NeedleGenerator(parsed, loaded, context_prefix=context_prefix)
        docs += [made.sample(index) for index in range(count)]
    return {"test": as_dataset(docs)}


def make_generator(
    spec: Mapping[str, Any], tokenizer: Any, *, context_prefix: str = "tokenizer", folder: str | None = None
) -> NeedleGenerator:
    """The generator of a spec from YAML; raises TaskError that names a wrong field."""
    return NeedleGenerator(NeedleSpec.parse(spec, Path(folder or "")), tokenizer, context_prefix=context_prefix)


def data_hashes(spec: Mapping[str, Any], folder: str | None = None) -> dict[str, str]:
    """SHA-256 of the user's own texts that a spec reads: of its haystack, and of files of keys and values."""
    parsed = NeedleSpec.parse(spec, Path(folder or ""))
    files = [kind.file for kind in (parsed.key, parsed.value) if kind.file is not None]
    return {**parsed.haystack.hashes(), **{file.name: data.file_sha256(file) for file in files}}


@dataclass(frozen=True, kw_only=True, slots=True)
class NeedleDraw:
    """What chance decides in one sample, before any token is counted."""

    keys: tuple[str, ...]
    """The key of each needle, distractors last."""
    values: tuple[str, ...]
    asked: tuple[str, ...]
    answers: tuple[str, ...]
    order: tuple[int, ...]
    """Needle at each place, from top to end."""
    places: tuple[float, ...]
    """Depth of each place, from 0 to 1, ascending."""
    start: int

    @property
    def outputs(self) -> list[str]:
        """The right answers."""
        return list(self.answers)


class NeedleGenerator:
    """Draws the samples of one spec for one tokenizer, which decides how many haystack words fit."""

    def __init__(self, spec: NeedleSpec, tokenizer: Any, *, context_prefix: str = "tokenizer") -> None:
        self.spec = spec
        self._tokenizer = tokenizer
        self._context_prefix = context_prefix
        self._haystack = None if spec.haystack.name == "needle" else sources.load(spec.haystack)
        templates = (spec.opening, spec.needle, spec.distractor, spec.question, spec.answer_prefix)
        self._corpora = (sources.load_corpus(spec.haystack), Corpus(" ".join(templates)))
        self._refuse_collisions()

    def sample(self, index: int) -> dict[str, Any]:
        """Sample `index` as a document; raises TaskError if the length does not hold the templates."""
        spec, draw = self.spec, self.draw(index)
        planter = self._planter(draw)
        frame, needles = self._frame(draw), self._needles(draw)
        if planter.needed(frame, needles) > spec.length:
            raise self._too_short()

        def place(lines: Sequence[str]) -> list[int]:
            return [round(depth * len(lines)) for depth in draw.places]

        planted = planter.plant(frame, needles, place, draw.start if self._haystack else 0)
        where = f"{spec.task}@{spec.length}"
        refuse_repetition(where, index, planted.prompt, draw.outputs)
        refuse_unanswerable(where, draw.outputs, spec.scoring, spec.generated_tokens, self._tokenizer)
        return {
            "input": planted.input,
            "gen_prefix": frame.answer_prefix,
            "outputs": draw.outputs,
            "scoring": spec.scoring if isinstance(spec.scoring, str) else list(spec.scoring),
            "task": spec.task,
            "length": spec.length,
            "prompt_tokens": planted.num_tokens,
            "fill": planter.fill_of(planted),
            "depth": list(draw.places),
            "needle_tokens": planter.positions(planted.prompt, planted.starts),
            "keys": [draw.keys[needle] for needle in draw.order],
            "values": [draw.values[needle] for needle in draw.order],
            "query": ", ".join(draw.asked),
            "index": index,
            "seed": spec.seed,
            "generator": "exact",
            "sample_hash": text_hash(planted.prompt, *draw.outputs),
        }

    def check(self) -> None:
        """See that the length holds the templates of every sample, without making them; raises TaskError if not."""
        if self._needed(self.spec.length) > self.spec.length:
            raise self._too_short()

    def draw(self, index: int) -> NeedleDraw:
        """Everything random about sample `index`."""
        spec = self.spec
        rng = self._rng(index)
        num_keys, num_values = spec.keys + spec.distractors, spec.keys * spec.values + spec.distractors
        if spec.value.items:  # few to choose from: the keys give way
            values = self._distinct(rng, "value", num_values, ())
            keys = self._distinct(rng, "key", num_keys, values)
        else:
            keys = self._distinct(rng, "key", num_keys, ())
            values = self._distinct(rng, "value", num_values, keys)
        owners = [key for key in keys[: spec.keys] for _ in range(spec.values)] + keys[spec.keys :]
        asked = rng.sample(range(spec.keys), spec.queries)
        first = asked[0] * spec.values
        order = rng.sample(range(len(owners)), len(owners))
        return NeedleDraw(
            keys=tuple(owners),
            values=tuple(values),
            asked=tuple(keys[key] for key in asked),
            answers=tuple(values[key * spec.values + number] for key in asked for number in range(spec.values)),
            **self._places(rng, order, first, index),
            start=rng.getrandbits(32) % (len(self._haystack.units) if self._haystack else 2**32),
        )

    def _places(self, rng: random.Random, order: list[int], first: int, index: int) -> dict[str, Any]:
        """Depths, ascending, and the needle at each; on a grid, the first asked needle goes through its points."""
        depths = self.spec.depths
        drawn = rng.sample(depths.listed, len(order)) if depths.listed else [rng.random() for _ in order]
        places = dict(zip(order, drawn, strict=True))
        if depths.grid:
            places[first] = index % depths.grid / (depths.grid - 1)
        ordered = sorted(order, key=lambda needle: places[needle])
        return {"order": tuple(ordered), "places": tuple(places[needle] for needle in ordered)}

    def _distinct(self, rng: random.Random, field: str, count: int, taken: Sequence[str]) -> list[str]:
        """Keys or values; keys of a list may occur in the haystack, values never do."""
        kind: Kind = getattr(self.spec, field)
        corpora = () if kind.items else self._corpora
        what = f"listed {field}s" if kind.items else kind.name
        try:
            return draw_distinct(rng, kind.draw, count, what=what, absent_from=corpora, taken=taken)
        except TaskError as error:
            raise TaskError(f"{self.spec.task}: {field}: {error}").at(field) from error

    def _rng(self, index: int, more: str = "") -> random.Random:
        identity = f"{self.spec.task}|{self.spec.length}|{self.spec.seed}|{index}{more}"
        return random.Random(hashlib.sha256(identity.encode()).digest())

    def _planter(self, draw: NeedleDraw) -> Planter:
        source = self._haystack or self._false_needles(draw)
        return Planter(
            source,
            self._tokenizer,
            label=f"{self.spec.task}@{self.spec.length}",
            length=self.spec.length,
            generated_tokens=self.spec.generated_tokens,
            context_prefix=self._context_prefix,
        )

    def _false_needles(self, draw: NeedleDraw) -> sources.FalseNeedles:
        """The haystack of needles that nobody asks for; none shares a key or a value with one of the sample."""
        spec = self.spec
        taken = {text.lower() for text in (*draw.keys, *draw.values)}

        def one(rng: random.Random, kind: Kind, what: str) -> str:
            for _ in range(1000):
                item = kind.draw(rng)
                if not any(item.lower() in other or other in item.lower() for other in taken):
                    return item
            raise TaskError(
                f"{spec.task}: haystack 'needle' finds no {what} that the sample's own needles do not use; list more"
            ).at("haystack")

        def needle(rng: random.Random) -> str:
            return spec.needle.format(key=one(rng, spec.key, "key"), value=one(rng, spec.value, "value"))

        return sources.FalseNeedles(needle, self._rng(draw.start, "|haystack"))

    def _needles(self, draw: NeedleDraw) -> list[str]:
        spec = self.spec
        num_real = spec.keys * spec.values
        texts = []
        for needle in draw.order:
            template = spec.needle if needle < num_real else spec.distractor or spec.needle
            texts.append(template.format(key=draw.keys[needle], value=draw.values[needle]))
        return texts

    def _frame(self, draw: NeedleDraw) -> Frame:
        spec = self.spec
        names = {"key": draw.asked[0], "keys": listed(draw.asked), "count": len(draw.answers)}
        return Frame(
            head=spec.opening.format(**names).rstrip("\n") + "\n" if spec.opening else "",
            tail="\n" + spec.question.format(**names) if spec.question else "\n",
            answer_prefix=spec.answer_prefix.format(**names).strip(),
        )

    def collisions(self, count: int) -> int | None:
        """Of `count` drawn values, how many occur in the haystack; None where values are listed."""
        if self.spec.value.items:
            return None
        rng = self._rng(0, "|collisions")
        return sum(self._corpora[0].contains(self.spec.value.draw(rng)) for _ in range(count))

    def _refuse_collisions(self) -> None:
        """Listed values must not occur in the haystack or in the templates."""
        for item in self.spec.value.items:
            if any(corpus.contains(item) for corpus in self._corpora):
                raise TaskError(
                    f"{self.spec.task}: value {item!r} occurs in the haystack or in a template, so that it is no proof "
                    "of retrieval; remove it from the list"
                ).at("value")

    def _needed(self, length: int) -> int:
        """The least length for the templates of every sample, if drawn for `length`."""
        spec = replace(self.spec, length=length)
        probe = NeedleGenerator(spec, self._tokenizer, context_prefix=self._context_prefix)
        draws = [probe.draw(index) for index in range(spec.samples)]
        planter = probe._planter(draws[0])
        return max(planter.needed(probe._frame(draw), probe._needles(draw)) for draw in draws)

    def _too_short(self) -> TaskError:
        spec = self.spec
        least = least_length(spec.length, self._needed)
        return TaskError(
            f"{spec.task}@{spec.length}: too short for the templates, {spec.keys * spec.values + spec.distractors} "
            f"needles and {spec.generated_tokens} generated tokens with this tokenizer; the least length that works is "
            f"{least}"
        )


def listed(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b, and c`: as RULER names several keys."""
    if len(items) < 3:
        return " and ".join(items)
    return ", ".join(items[:-1]) + f", and {items[-1]}"
