"""The batch of a step: a pure function of (recipe, corpus, step), so that a resumed run sees what it would have seen.

Letters: B rows, T tokens.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gdn2.train.corpus import MIN_WORD_COUNT, Corpus
from gdn2.train.recipe import Recipe, Stage
from gdn2.train.retrieval import draw_document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


IGNORED, TEXT, ANSWER = range(3)  # what a position's target is
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
            self._draw(random.Random(f"{self.recipe.seed}/check/{index}"), stage, CHECKED_DRAWS)

    def batch(self, step: int) -> Batch:
        """The batch of a step.

        Args:
            step: counted from 0.

        Returns:
            The same batch at every call.

        Raises:
            RecipeError: no retrieval document fits the stage's length.
        """
        stage = self.recipe.stage_of(step)
        num_retrieval = round(stage.rows * stage.retrieval)
        rows = [
            self._retrieval_row(random.Random(f"{self.recipe.seed}/{step}/{row}"), stage)
            if row < num_retrieval
            else self._text_row(random.Random(f"{self.recipe.seed}/{step}/{row}"), stage)
            for row in range(stage.rows)
        ]
        ids = torch.tensor([row[0] for row in rows])
        kinds = torch.tensor([row[1] for row in rows])[:, 1:]
        return Batch(ids[:, :-1], ids[:, 1:], kinds == TEXT, kinds == ANSWER)

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids

    def _text_row(self, rng: random.Random, stage: Stage) -> tuple[list[int], list[int]]:
        """A stretch of the stream: half of them begin with a document, as evaluated texts do."""
        stream, size = self.corpus.stream, stage.length + 1
        start = rng.randrange(len(stream) - 2 * size)
        if rng.random() < 0.5:
            boundary = (stream[start : start + size] == self.tokenizer.eos_token_id).nonzero()[0]
            start += int(boundary[0]) + rng.randint(0, 1) if len(boundary) else 0
        return stream[start : start + size].tolist(), [TEXT] * size

    def _retrieval_row(self, rng: random.Random, stage: Stage) -> tuple[list[int], list[int]]:
        """A retrieval document, then ordinary text up to the end of the row."""
        size = stage.length + 1
        ids, kinds = self._draw(rng, stage, MAX_DRAWS)
        fill = size - len(ids)
        start = rng.randrange(len(self.corpus.stream) - size)
        text = [self.tokenizer.eos_token_id, *self.corpus.stream[start : start + size].tolist()]
        return ids + text[:fill], kinds + [IGNORED, *[TEXT] * size][:fill]

    def _draw(self, rng: random.Random, stage: Stage, draws: int) -> tuple[list[int], list[int]]:
        """The first retrieval document that fits a row: its ids, and what each of them is as a target."""
        size = stage.length + 1
        for _ in range(draws):
            document = draw_document(
                rng, size - 2, stage.max_keys, self.corpus.key_words, self.corpus.sentences, self.count_tokens
            )
            ids = [self.tokenizer.eos_token_id] if rng.random() < 0.5 else []
            kinds = [IGNORED] * len(ids)
            for segment in document:
                piece = self._encode(segment.text)
                ids += piece
                kinds += [ANSWER if segment.is_answer else IGNORED] * len(piece)
            if len(ids) <= size:
                return ids, kinds
        raise self.recipe.error(
            f"stages[{self.recipe.stages.index(stage)}].length: none of {draws:,} retrieval documents fits in "
            f"{stage.length} tokens; choose a longer length, fewer max_keys, or retrieval: 0"
        )
