"""Statements planted in a haystack, and the prompt around it filled to the token.

Knows texts, places and token counts; never what a statement means or how an answer is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.errors import TaskError
from tasks.text.filling import EXTRA_WORDS, fill
from tasks.text.haystack import Stretch, Units
from tasks.text.tokenizers import TokenCounter, prefix_ids

MIN_HAYSTACK_TOKENS = 16
MIN_FILL = 0.98


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """The texts around the context; the model reads head, context, tail, answer prefix."""

    head: str
    tail: str
    answer_prefix: str = ""

    def input(self, context: str) -> str:
        """The prompt without its answer prefix."""
        return f"{self.head}{context}{self.tail}"

    def prompt(self, context: str) -> str:
        """The prompt as lm-eval sends it."""
        return join_prompt(self.input(context), self.answer_prefix)


@dataclass(frozen=True, kw_only=True, slots=True)
class Planted:
    """A filled prompt. `starts` and `ends` are the statements' first character and the one behind their last."""

    input: str
    prompt: str
    num_tokens: int
    """Tokens of the prompt with its context prefix."""
    depths: tuple[float, ...]
    """Of each statement: the share of haystack lines before it."""
    starts: tuple[int, ...]
    ends: tuple[int, ...]


Place = Callable[[Sequence[str]], Sequence[int]]
"""From the lines of a haystack to the index of the line before which each statement is put; ascending."""


def join_prompt(text: str, answer_prefix: str) -> str:
    """Text and answer prefix as lm-eval joins them: a space between, unless there is white space already."""
    if not answer_prefix:
        return text
    space = "" if text[-1:].isspace() or answer_prefix[0].isspace() else " "
    return f"{text}{space}{answer_prefix}"


def prefix_behind(text: str, answer_prefix: str) -> str:
    """An answer prefix that begins with a space as `join_prompt` joins it to the text without losing or adding one.

    The space is the one that is put between, unless the text ends in white space (a question of SQuAD may).
    """
    return answer_prefix if text[-1:].isspace() else answer_prefix.removeprefix(" ")


class Planter:
    """Fills prompts of one length for one tokenizer.

    Args:
        label: the beginning of error messages, such as `edit_overwrite@1024`.
        length: tokens of context prefix, prompt and generation together.
        generated_tokens: tokens that the model may generate.
    """

    def __init__(
        self,
        haystack: Units,
        tokenizer: Any,
        *,
        label: str,
        length: int,
        generated_tokens: int,
        context_prefix: str = "tokenizer",
    ) -> None:
        self._haystack = haystack
        self._label = label
        self._length = length
        self._generated_tokens = generated_tokens
        self.counter = TokenCounter(tokenizer)
        self.prefix_tokens = len(prefix_ids(tokenizer, context_prefix))

    @property
    def room(self) -> int:
        """Tokens that a prompt may have, without the context prefix."""
        return self._length - self._generated_tokens - self.prefix_tokens

    def needed(self, frame: Frame, statements: Sequence[str]) -> int:
        """The least length that holds this frame and these statements with a little haystack."""
        return self._bare_tokens(frame, statements) + MIN_HAYSTACK_TOKENS + self._length - self.room

    def line_tokens(self, line: str) -> int:
        """Tokens that a line adds to the context."""
        return self.counter.word_cost(self._haystack.joiner + line)

    def plant(self, frame: Frame, statements: Sequence[str], place: Place, start_unit: int) -> Planted:
        """The prompt with as many haystack words as the length holds.

        Raises:
            TaskError: no choice of words fills more than 98 % of the length without exceeding it.
        """
        stretch = Stretch(self._haystack, start_unit)
        bare_tokens = self._bare_tokens(frame, statements)

        def context(num_words: int, omitted: Sequence[int]) -> str:
            lines = stretch.lines(num_words, omitted)
            return self._haystack.joiner.join(weave(lines, statements, place(lines)))

        found = fill(
            costs=self._costs(stretch, self.room - bare_tokens),
            unit_starts=stretch.unit_starts,
            frame_tokens=bare_tokens,
            budget=self.room,
            measure=lambda num_words, omitted: self.counter.count(frame.prompt(context(num_words, omitted))),
            two=True,
        )
        num_tokens = self.prefix_tokens + (found.num_tokens if found else 0)
        if found is None or (num_tokens + self._generated_tokens) / self._length <= MIN_FILL:
            raise TaskError(
                f"{self._label}: a sample stops at {num_tokens} prompt tokens; this tokenizer's words are too coarse "
                "for this length: use a longer one"
            )
        lines = stretch.lines(found.num_words, found.omitted)
        cuts = place(lines)
        parts = weave(lines, statements, cuts)
        starts = self._starts(parts, cuts, len(frame.head))
        text = self._haystack.joiner.join(parts)
        return Planted(
            input=frame.input(text),
            prompt=frame.prompt(text),
            num_tokens=num_tokens,
            depths=tuple(cut / max(1, len(lines)) for cut in cuts),
            starts=starts,
            ends=tuple(start + len(item) for start, item in zip(starts, statements, strict=True)),
        )

    def positions(self, prompt: str, characters: Sequence[int]) -> list[int]:
        """Index of the token that covers each character, counted with the context prefix."""
        return [self.prefix_tokens + position for position in self.counter.positions(prompt, characters)]

    def fill_of(self, planted: Planted) -> float:
        """The share of the length that prompt and generation take."""
        return (planted.num_tokens + self._generated_tokens) / self._length

    def _starts(self, parts: Sequence[str], cuts: Sequence[int], head: int) -> tuple[int, ...]:
        """First character of each statement: statement i is part `cuts[i] + i`."""
        begins, position = [], head
        for part in parts:
            begins.append(position)
            position += len(part) + len(self._haystack.joiner)
        return tuple(begins[cut + index] for index, cut in enumerate(cuts))

    def _bare_tokens(self, frame: Frame, statements: Sequence[str]) -> int:
        return self.counter.count(frame.prompt(self._haystack.joiner.join(statements)))

    def _costs(self, stretch: Stretch, wanted_tokens: int) -> list[int]:
        """Estimated tokens of the stretch's words, until there are more words than can be needed."""
        costs: list[int] = []
        total = spare = 0
        while spare < EXTRA_WORDS and len(costs) < 2 * self._length + 10 * EXTRA_WORDS:
            for piece in stretch.extend():
                costs.append(self.counter.word_cost(piece))
                total += costs[-1]
                spare += total > wanted_tokens + MIN_HAYSTACK_TOKENS
        return costs


def weave(lines: Sequence[str], statements: Sequence[str], cuts: Sequence[int]) -> list[str]:
    """The lines with statement i in front of line `cuts[i]`; cuts ascend."""
    parts: list[str] = []
    done = 0
    for statement, cut in zip(statements, cuts, strict=True):
        parts += [*lines[done:cut], statement]
        done = cut
    return [*parts, *lines[done:]]


def least_length(length: int, needed: Callable[[int], int]) -> int:
    """The first length from `length` upwards that holds its samples, which themselves depend on the length."""
    while (least := needed(length)) > length:
        length = least
    return length
