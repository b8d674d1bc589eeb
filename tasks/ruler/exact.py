"""The generator `exact`: every sample is filled to the token and depends on no other.

Sample i depends on (task, length, seed, i) only, never on other samples, tasks or limits; the tokenizer decides how
much context fits. `length` counts the context prefix, the whole model input and the generated tokens. Templates and
kinds follow NVIDIA/RULER scripts/data/synthetic (Apache-2.0); the generator is our own.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from typing import Any

from tasks.errors import TaskError
from tasks.ruler.coded import CodedProblems
from tasks.ruler.common import CommonProblems
from tasks.ruler.niah import NeedleProblems
from tasks.ruler.problem import Filled, RulerProblem, RulerProblems
from tasks.ruler.qa import QuestionProblems
from tasks.ruler.spec import RulerSpec
from tasks.ruler.templates import QUESTION_SOURCES
from tasks.ruler.tracking import ChainProblems
from tasks.subset import text_hash
from tasks.text.pieces import PieceCounter, piece_counter
from tasks.text.planting import MIN_FILL, MIN_HAYSTACK_TOKENS, prefix_behind
from tasks.text.tokenizers import prefix_ids

VERIFIED = 64
"""One sample in so many is counted as a whole as well, to see that its words' tokens add up to it."""


class Generator:
    """Makes the samples of one spec for one tokenizer."""

    def __init__(self, spec: RulerSpec, tokenizer: Any, *, context_prefix: str = "tokenizer") -> None:
        self.spec = spec
        self._tokenizer = tokenizer
        self._context_prefix = context_prefix
        self._counter = piece_counter(tokenizer)
        self._prefix_tokens = len(prefix_ids(tokenizer, context_prefix))
        self._problems = _problems(spec, self._counter, self._room - MIN_HAYSTACK_TOKENS)

    @property
    def _room(self) -> int:
        """Tokens that a prompt may have, without the context prefix."""
        return self.spec.length - self.spec.generated_tokens - self._prefix_tokens

    def sample(self, index: int) -> dict[str, Any]:
        """Sample `index` as a document; raises TaskError if the length does not hold the template."""
        spec = self.spec
        problem = self.problem(index)
        if problem.frame_tokens(self._counter) + MIN_HAYSTACK_TOKENS > self._room:
            raise self._too_short()
        filled = problem.filled(self._counter, self._room)
        if index % VERIFIED == 0 and self._counter.adds_up and not self._is_right(filled):
            return self.sample(index)
        num_tokens = filled.num_tokens + self._prefix_tokens
        if (num_tokens + spec.generated_tokens) / spec.length <= MIN_FILL:
            raise TaskError(
                f"{spec.task}@{spec.length}: sample {index} stops at {num_tokens} prompt tokens; this tokenizer's "
                "words are too coarse for this length: use a longer one"
            )
        return self._document(index, problem, filled)

    def _is_right(self, filled: Filled) -> bool:
        """Whether the whole prompt has the tokens that were counted; if not, all texts are counted as a whole now."""
        return self._counter.verified(filled.prompt) and self._counter.count(filled.prompt) == filled.num_tokens

    def samples(self, count: int) -> list[dict[str, Any]]:
        """The first `count` samples."""
        return [self.sample(index) for index in range(count)]

    def check(self) -> None:
        """See that the length holds the template of every sample, without making them; raises TaskError if not."""
        room = self._room - MIN_HAYSTACK_TOKENS
        if any(self.problem(index).frame_tokens(self._counter) > room for index in range(self.spec.samples)):
            raise self._too_short()

    def problem(self, index: int) -> RulerProblem:
        """Everything random about sample `index`."""
        spec = self.spec
        identity = f"{spec.task}|{spec.length}|{spec.seed}|{index}"
        return self._problems.problem(index, random.Random(hashlib.sha256(identity.encode()).digest()))

    def _too_short(self) -> TaskError:
        """What is drawn depends on the length, so the least length is searched upwards until all samples fit."""
        spec, length = self.spec, self.spec.length
        while True:
            probe = Generator(replace(spec, length=length), self._tokenizer, context_prefix=self._context_prefix)
            frames = (probe.problem(index).frame_tokens(self._counter) for index in range(spec.samples))
            needed = max(frames) + MIN_HAYSTACK_TOKENS + spec.generated_tokens + self._prefix_tokens
            if needed <= length:
                break
            length = needed
        return TaskError(
            f"{spec.task}@{spec.length}: too short for the template and {spec.generated_tokens} generated tokens with "
            f"this tokenizer; the least length that works is {length}"
        )

    def _document(self, index: int, problem: RulerProblem, filled: Filled) -> dict[str, Any]:
        spec, end, prompt = self.spec, len(problem.prefix), filled.prompt
        num_tokens = filled.num_tokens + self._prefix_tokens
        found = filled.evidence_tokens
        if found is None:
            found = self._counter.positions(prompt, [prompt.rindex(text) for text in problem.evidence])
        positions = [self._prefix_tokens + place for place in found]
        return {
            "input": prompt[:-end],
            "gen_prefix": prefix_behind(prompt[:-end], problem.prefix),
            "outputs": list(problem.outputs),
            "task": spec.task,
            "length": spec.length,
            "prompt_tokens": num_tokens,
            "fill": (num_tokens + spec.generated_tokens) / spec.length,
            "depth": problem.depths if problem.depths is not None else [round(p / num_tokens, 4) for p in positions],
            "needle_tokens": positions,
            **problem.facts,
            "index": index,
            "seed": spec.seed,
            "generator": "exact",
            "sample_hash": text_hash(prompt, *problem.outputs),
        }


def _problems(spec: RulerSpec, counter: PieceCounter, room: int) -> RulerProblems:
    """The problems of a task; those with several forms take one whose frame has at most `room` tokens."""
    if spec.variant is not None:
        return NeedleProblems(spec.variant)
    if spec.task in QUESTION_SOURCES:
        return QuestionProblems(spec, counter, room)
    if spec.task == "vt":
        return ChainProblems(spec, counter, room)
    return CommonProblems(spec, counter, room) if spec.task == "cwe" else CodedProblems(spec)
