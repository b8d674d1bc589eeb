"""The batch of a step: a pure function of (recipe, corpus, step), so that a resumed run sees what it would have seen.

Letters: B rows, T tokens.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gdn2.train.corpus import MIN_WORD_COUNT, Corpus
from gdn2.train.facts import ANSWER, IGNORED, SHORTEST, TEXT, Document, FactDocuments
from gdn2.train.fields import RecipeError
from gdn2.train.recipe import Recipe, Stage
from gdn2.train.retrieval import draw_document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


MAX_DRAWS = 10_000
CHECKED_DRAWS = 100
"""Draws of a retrieval document until one fits its row: in training, and in the check before it, which is stricter so
that training does not fail by bad luck."""


@dataclass(frozen=True)
class Batch:
    """Rows of token ids and what is to be predicted.

    Attributes:
        input_ids: int64 [B, T].
        targets: the id that follows each, int64 [B, T].
        is_text: bool [B, T], the targets whose loss counts as text.
        is_answer: bool [B, T], those whose loss counts as an answer.
    """

    input_ids: Tensor
    targets: Tensor
    is_text: Tensor
    is_answer: Tensor

    @classmethod
    def of(cls, ids: np.ndarray, kinds: np.ndarray) -> Batch:
        """Make one of rows of T + 1 tokens and what each is as a target."""
        tokens, what = torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(kinds)[:, 1:]
        return cls(tokens[:, :-1], tokens[:, 1:], what == TEXT, what == ANSWER)


class BatchMaker:
    """Draws rows of text and of retrieval documents in the shares that the recipe's stage asks for."""

    def __init__(self, recipe: Recipe, corpus: Corpus, tokenizer: PreTrainedTokenizerFast) -> None:
        self.recipe, self.corpus, self.tokenizer = recipe, corpus, tokenizer
        self.count_tokens = lru_cache(maxsize=200_000)(lambda text: len(self._encode(text)))

    def check(self) -> None:
        """See that the corpus has what every stage asks for, before a step is taken.

        Raises:
            RecipeError: a stage's rows cannot be drawn; the message names the stage and the way out.
        """
        for index, stage in enumerate(self.recipe.stages):
            where, size = f"stages[{index}]", stage.length + 1
            if len(self.corpus.stream) <= 2 * size:
                raise self.recipe.error(
                    f"{where}.length: rows of {stage.length:,} tokens need a training text of over {2 * size:,}; "
                    f"data.train has {len(self.corpus.stream):,}"
                )
            if not round(stage.rows * stage.retrieval):
                continue
            words = len(self.corpus.key_words)
            if stage.max_keys > words**2:
                raise self.recipe.error(
                    f"{where}.max_keys: {stage.max_keys} keys need more words than the {words} of 4 to 9 letters that "
                    f"occur {MIN_WORD_COUNT} times in data.train; train on more text, or with retrieval: 0"
                )
            rng = random.Random(f"{self.recipe.seed}/check/{index}")
            if stage.wording == "own":
                self._draw_facts(rng, stage, min(size, SHORTEST), CHECKED_DRAWS)
            else:
                self._draw(rng, stage, CHECKED_DRAWS)

    def batch(self, step: int) -> Batch:
        """The batch of a step.

        Args:
            step: counted from 0.

        Returns:
            The same batch at every call.

        Raises:
            RecipeError: no retrieval document fits the stage's length.
        """
        return Batch.of(*self.rows(step))

    def rows(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The same as arrays: ids uint16 [B, T + 1], and what each is as a target, int8 [B, T + 1]."""
        stage = self.recipe.stage_of(step)
        num_retrieval = round(stage.rows * stage.retrieval)
        rows = [
            self._retrieval_row(random.Random(f"{self.recipe.seed}/{step}/{row}"), stage)
            if row < num_retrieval
            else self._text_row(random.Random(f"{self.recipe.seed}/{step}/{row}"), stage)
            for row in range(stage.rows)
        ]
        return np.stack([row.ids for row in rows]), np.stack([row.kinds for row in rows])

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids

    @cached_property
    def _facts(self) -> FactDocuments:
        tokens = self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))
        return FactDocuments(self.corpus, tokens, self._end, self._encode)

    @property
    def _end(self) -> int:
        return int(self.tokenizer.eos_token_id)

    def _text_row(self, rng: random.Random, stage: Stage) -> Document:
        """A stretch of the stream: half of them begin with a document, as evaluated texts do."""
        stream, size = self.corpus.stream, stage.length + 1
        start = rng.randrange(len(stream) - 2 * size)
        if rng.random() < 0.5:
            boundary = (stream[start : start + size] == self._end).nonzero()[0]
            start += int(boundary[0]) + rng.randint(0, 1) if len(boundary) else 0
        return Document(stream[start : start + size], np.full(size, TEXT, np.int8))

    def _retrieval_row(self, rng: random.Random, stage: Stage) -> Document:
        """A retrieval document, or several in the recipe's own wording, then ordinary text up to the end of the row."""
        size = stage.length + 1
        parts = self._documents(rng, stage) if stage.wording == "own" else [self._draw(rng, stage, MAX_DRAWS)]
        start = rng.randrange(len(self.corpus.stream) - size)
        parts += [self._between, Document(self.corpus.stream[start : start + size], np.full(size, TEXT, np.int8))]
        ids, kinds = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Document(ids[:size], kinds[:size])

    @property
    def _between(self) -> Document:
        return Document(np.array([self._end], np.uint16), np.array([IGNORED], np.int8))

    def _documents(self, rng: random.Random, stage: Stage) -> list[Document]:
        """As many documents as a row holds, each of `SHORTEST` tokens or more unless the row is shorter."""
        parts: list[Document] = []
        room = stage.length + 1
        while not parts or room > SHORTEST:
            if parts or rng.random() < 0.5:
                parts.append(self._between)
                room -= 1
            most = rng.randint(min(SHORTEST, room), room) if rng.random() < 0.6 else room
            parts.append(self._draw_facts(rng, stage, most, MAX_DRAWS))
            room -= len(parts[-1].ids)
        return parts

    def _draw_facts(self, rng: random.Random, stage: Stage, most: int, draws: int) -> Document:
        for _ in range(draws):
            if (document := self._facts.draw(rng, most, stage.max_keys)) is not None:
                return document
        raise self._none_fits(stage, draws)

    def _draw(self, rng: random.Random, stage: Stage, draws: int) -> Document:
        """The first retrieval document that fits a row."""
        size = stage.length + 1
        for _ in range(draws):
            document = draw_document(
                rng, size - 2, stage.max_keys, self.corpus.key_words, self.corpus.sentences, self.count_tokens
            )
            ids = [self._end] if rng.random() < 0.5 else []
            kinds = [IGNORED] * len(ids)
            for segment in document:
                piece = self._encode(segment.text)
                ids += piece
                kinds += [ANSWER if segment.is_answer else IGNORED] * len(piece)
            if len(ids) <= size:
                return Document(np.array(ids, np.uint16), np.array(kinds, np.int8))
        raise self._none_fits(stage, draws)

    def _none_fits(self, stage: Stage, draws: int) -> RecipeError:
        return self.recipe.error(
            f"stages[{self.recipe.stages.index(stage)}].length: none of {draws:,} retrieval documents fits in "
            f"{stage.length} tokens; choose a longer length, fewer max_keys, or retrieval: 0"
        )
