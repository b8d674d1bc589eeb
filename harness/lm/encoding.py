"""Texts as token ids: what comes before them, pairs of context and continuation, windows of a whole text.

As lm-eval's HFLM at batch size 1, to the token, but for what docs/tasks.md names: nothing is ever appended, a prefix is
context and not text (unless it is asked for as `lm-eval`), and parts that merge into one token are encoded apart.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from harness.errors import UserError
from tasks.text.tokenizers import SCORED_PREFIX, prefix_ids


class TextEncoder:
    """Texts to ids by one tokenizer behind one context prefix.

    Attributes:
        tokenizer: a transformers tokenizer.
        context_prefix: its name, one of `tasks.text.tokenizers.CONTEXT_PREFIXES`.
        prefix: its ids; they may be none.
    """

    def __init__(self, tokenizer: Any, context_prefix: str) -> None:
        """Choose the prefix.

        Args:
            tokenizer: a transformers tokenizer.
            context_prefix: the name of a prefix.

        Raises:
            TaskError: an unknown name, or a token that the tokenizer does not have.
        """
        self.tokenizer, self.context_prefix = tokenizer, context_prefix
        self.prefix = prefix_ids(tokenizer, context_prefix)
        self._ids: dict[int, int] = {}  # one object a token of the vocabulary: 8 bytes an id, not 40
        self._known: dict[tuple[str, bool], list[int]] | None = None

    @property
    def prefix_token_id(self) -> int:
        """What lm-eval replaces an empty context by: the chosen prefix, else BOS, else EOS."""
        if self.context_prefix in ("bos", "eos"):
            return self.prefix[0]
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        return int(eos if bos is None else bos)

    @property
    def in_front(self) -> list[int]:
        """The ids in front of a text without context; at least one, for the first token needs something to follow."""
        return list(self.prefix) or [self.prefix_token_id]

    @contextlib.contextmanager
    def remembering(self) -> Iterator[None]:
        """Encode each text once in this block: several choices share their context."""
        self._known = {}
        try:
            yield
        finally:
            self._known = None

    def encode(self, text: str, *, prefixed: bool = True) -> list[int]:
        """Encode a text; nothing is ever appended.

        Args:
            text: what to encode.
            prefixed: whether the prefix comes first; a text that spells it out does not get it a second time.

        Returns:
            Its ids.
        """
        if self._known is None:
            return self._encode(text, prefixed=prefixed)
        key = (text, prefixed)
        if key not in self._known:
            self._known[key] = self._encode(text, prefixed=prefixed)
        return list(self._known[key])

    def pair(self, context: str, continuation: str) -> tuple[list[int], list[int], bool]:
        """Encode a continuation behind its context.

        Both are encoded as one text and cut where the context alone ends; spaces at the context's end belong to the
        continuation. A continuation of which no token would be left so, because it merges with the end of its context,
        is encoded by itself.

        Args:
            context: may be empty.
            continuation: what is scored.

        Returns:
            (ids of the context, ids of the continuation, whether they were encoded apart).
        """
        spaces = len(context) - len(context.rstrip())
        if spaces:
            continuation = context[-spaces:] + continuation
            context = context[:-spaces]
        before = self.encode(context) if context else []
        if not before:
            ids, front = self.encode(continuation, prefixed=False), self.in_front
            return front, ids[len(front) :] if ids[: len(front)] == front else ids, False
        target = self.encode(context + continuation)[len(before) :]
        if target or not continuation:
            return before, target, False
        return before, self.encode(continuation, prefixed=False), True

    def windows(self, text: str, max_length: int) -> list[tuple[list[int], list[int]]]:
        """Cut a whole text into windows in which every token is scored once, as lm-eval cuts them.

        Args:
            text: a document.
            max_length: tokens that a window reads at most.

        Returns:
            (ids of context, ids to score) of each window; the context of the first is the prefix.

        Raises:
            UserError: a window that is too short for the prefix.
        """
        if self.context_prefix == SCORED_PREFIX:
            front, ids = [self.prefix_token_id], self.encode(text)
        else:
            front, ids = self.in_front, self.encode(text, prefixed=False)
            if self.prefix and ids[: len(front)] == front:
                ids = ids[len(front) :]
        extra = len(front) - 1
        if not ids:
            return []
        if max_length <= extra:
            raise UserError(f"max_length {max_length} leaves no room behind a context prefix of {len(front)} tokens")
        cut = get_rolling_token_windows([*front[1:], *ids], front[0], max_length, 1)
        found = [(list(context), list(target)) for context, target in map(make_disjoint_window, cut)]
        context, target = found[0]
        found[0] = context + target[:extra], target[extra:]
        return found

    def _encode(self, text: str, *, prefixed: bool) -> list[int]:
        shared = self._ids.setdefault
        ids = [shared(token, token) for token in self.tokenizer.encode(text, add_special_tokens=False)]
        if not prefixed or any(text.startswith(start) for start in self._starts):
            return ids
        spelled = max((n for n in range(1, len(self.prefix) + 1) if ids[:n] == self.prefix[-n:]), default=0)
        return [*self.prefix[: len(self.prefix) - spelled], *ids]

    @cached_property
    def _starts(self) -> tuple[str, ...]:
        """How a text begins that brings a prefix of its own."""
        tokens = (self.prefix_token_id, *self.prefix[:1])
        spelled = dict.fromkeys(str(self.tokenizer.decode(token)) for token in tokens)
        return tuple(start for start in spelled if start)
