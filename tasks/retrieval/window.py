"""The cut of the recall tasks of Just Read Twice: a window of tokens around the first place of an answer.

Source: HazyResearch/prefix-linear-attention, its fork of lm-evaluation-harness, `truncate_context`, and the keys that
it sets by task. Nothing is filled up: an answer near an end leaves a window shorter than asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.errors import TaskError

ANSWER_LENGTH = 50
"""Tokens that the cut leaves for the answer, out of the context length."""
SHORTEST_ANSWER = 2
"""Characters; the protocol drops documents whose answer is shorter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A cut text with what was cut; positions are tokens, special tokens that the tokenizer adds included."""

    text: str
    start: int
    end: int
    document_tokens: int
    found: bool | None
    """Whether an answer is in the document; None where the head is kept without looking."""

    @property
    def is_cut(self) -> bool:
        """Whether the window is shorter than the document."""
        return self.end - self.start < self.document_tokens


def is_dropped(answers: Sequence[str]) -> bool:
    """Whether the protocol leaves the document out: an answer to cut around has less than two characters."""
    return any(len(answer) < SHORTEST_ANSWER for answer in answers)


def cut(
    text: str,
    tokenizer: Any,
    context_length: int,
    *,
    around: Sequence[str] = (),
    otherwise: Sequence[str] = (),
    token_position: int | None = None,
    find: Callable[[str, str], int] | None = None,
) -> Window:
    """The window of `context_length` - 50 tokens around an answer.

    Args:
        text: the document; stripped first.
        tokenizer: a Hugging Face tokenizer; its default special tokens count and are not decoded.
        context_length: the protocol's; the window has 50 tokens less.
        around: answers to look for, literally, case ignored; the earliest place of any counts. None at all: the head.
        otherwise: further answers, tried in order when none of `around` is there.
        token_position: where the data set says that the answer is; used when no answer is found and it lies beyond
            the window.
        find: from an answer and a text to the answer's place there, -1 if nowhere; by default the first literal one.

    Raises:
        TaskError: a tokenizer that gives no tokens.
    """
    text = text.strip()
    width = context_length - ANSWER_LENGTH
    find = find or _find
    places = [place for place in (find(answer, text) for answer in around) if place >= 0]
    place = min(places) if places else -1
    if place < 0:
        place = next((found for answer in otherwise if (found := find(answer, text)) >= 0), -1)
    if not around:
        place = 0
    ids = tokenizer(text)["input_ids"]
    if text and not ids:
        raise TaskError("the tokenizer gives no tokens for a document; give one that fits the model and the language")
    # Not found: the text without its last character, as the source does, so that the document's end is kept.
    token = len(tokenizer(text[:place])["input_ids"])
    if place < 0 and token_position is not None and token > width:
        token = token_position
    start = max(0, token - width // 2)
    end = max(start, min(len(ids), token + width - (token - start)))
    return Window(
        text=tokenizer.decode(ids[start:end], skip_special_tokens=True),
        start=start,
        end=end,
        document_tokens=len(ids),
        found=place >= 0 if around else None,
    )


def _find(answer: str, text: str) -> int:
    match = re.search(re.escape(answer), text, re.IGNORECASE)
    return match.start() if match else -1
