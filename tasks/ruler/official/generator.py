"""The documents of an official generator, in the form that all tasks have."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from tasks.errors import TaskError
from tasks.ruler.official import lm_eval, nvidia, nvidia_26_3
from tasks.ruler.official.drawn import Count, Drawn
from tasks.ruler.spec import RulerSpec
from tasks.subset import text_hash
from tasks.text.planting import join_prompt, prefix_behind
from tasks.text.tokenizers import TokenCounter, prefix_ids


class OfficialGenerator:
    """Samples of `nvidia`, `nvidia-26.3` or `lm-eval` for one tokenizer. Each sample depends on those before it."""

    def __init__(self, spec: RulerSpec, tokenizer: Any, *, context_prefix: str = "tokenizer") -> None:
        self.spec = spec
        self._counter = TokenCounter(tokenizer)
        self._prefix_tokens = len(prefix_ids(tokenizer, context_prefix))
        self._special_tokens = len(tokenizer("a").input_ids) - len(tokenizer.encode("a", add_special_tokens=False))

    def samples(self, count: int) -> list[dict[str, Any]]:
        """The documents of the first `count` draws; lm-eval drops draws that never fit, and raises if none does.

        Raises:
            TaskError: a length at which the original never ends, fails, or drops all samples.
            DataNotStaged: essays or questions are not staged.
        """
        drawn = itertools.islice(draws(self.spec, self._count), count)
        made = [self._document(index, one, size) for index, (one, size) in enumerate(drawn) if one is not None]
        if not made:
            raise TaskError(
                f"{self.spec.task}@{self.spec.length}: lm-eval drops all {count} samples, none fits: use a longer one"
            )
        return made

    def sample(self, index: int) -> dict[str, Any]:
        """Document `index`; all before it are drawn as well."""
        for number, (drawn, size) in enumerate(draws(self.spec, self._count)):
            if number == index:
                if drawn is None:
                    raise TaskError(f"{self.spec.task}@{self.spec.length}: lm-eval drops sample {index}: it never fits")
                return self._document(index, drawn, size)
        raise TaskError(f"{self.spec.task}@{self.spec.length}: there is no sample {index}")

    def check(self) -> None:
        """See that the first sample can be drawn; raises TaskError if not."""
        next(draws(self.spec, self._count))

    def _count(self, text: str) -> int:
        special = self._special_tokens if self.spec.generator == "lm-eval" else 0
        return self._counter.count(text) + special

    def _document(self, index: int, drawn: Drawn, size: int) -> dict[str, Any]:
        spec, prompt = self.spec, drawn.prompt
        text, prefix = prompt[: -len(drawn.prefix)], drawn.prefix.lstrip()
        joint = drawn.prefix[: -len(prefix)]
        if joint != " ":
            text += joint
        elif spec.generator == "lm-eval":  # which puts no space behind a question that ends in one
            prompt = join_prompt(text, prefix)
        else:
            prefix = prefix_behind(text, drawn.prefix)
        num_tokens = self._prefix_tokens + self._counter.count(prompt)
        starts = sorted(prompt.rfind(text) for text in drawn.evidence)
        positions = [self._prefix_tokens + place for place in self._counter.positions(prompt, starts)]
        return {
            # lm-eval and the preview join the two by one space, unless the first ends in white space.
            "input": text,
            "gen_prefix": prefix,
            "outputs": list(drawn.outputs),
            "task": spec.task,
            "length": spec.length,
            "prompt_tokens": num_tokens,
            "fill": (num_tokens + spec.generated_tokens) / spec.length,
            "depth": [round(position / num_tokens, 4) for position in positions],
            "needle_tokens": positions,
            **drawn.facts,
            "size": size,
            "index": index,
            "seed": spec.seed,
            "generator": spec.generator,
            "sample_hash": text_hash(drawn.prompt, *drawn.outputs),
        }


def draws(spec: RulerSpec, count: Count) -> Iterator[tuple[Drawn | None, int]]:
    """What the spec's generator draws, each with its size; None for a sample that it drops."""
    if spec.generator == "nvidia":
        yield from nvidia.samples(spec, count)
    elif spec.generator == "nvidia-26.3":
        yield from nvidia_26_3.samples(spec, count)
    else:
        yield from lm_eval.samples(spec, count)
