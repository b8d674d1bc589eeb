"""Text for training: paragraphs as one stream of token ids, and the words and sentences that haystacks are made of."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gdn2.train.recipe import RecipeError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

KEY_WORD = re.compile(r"\b[a-z]{4,9}\b")
SENTENCE_END = re.compile(r"(?<=[.!?]) +(?=[A-Z])")
MIN_WORD_COUNT = 30
HAYSTACK_PARAGRAPHS = 8000


@dataclass(frozen=True)
class Corpus:
    """`stream`: all training paragraphs, each behind an end-of-text token, uint16 [N]; `key_words` and `sentences`
    for retrieval documents; `documents`: number of paragraphs; `num_bytes`: their UTF-8 length."""

    stream: np.ndarray
    key_words: list[str]
    sentences: list[str]
    documents: int
    num_bytes: int


def read_texts(path: Path) -> Iterator[str]:
    """The "text" of each line.

    Raises:
        RecipeError: the file is missing or a line is not an object with "text".
    """
    if not path.is_file():
        raise RecipeError(f"{path}: training text not found; fetch it with `python run_eval.py stage`")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield json.loads(line)["text"]
            except (ValueError, KeyError, TypeError) as error:
                raise RecipeError(f'{path}, line {number}: expected a JSON object with "text"') from error


def load_corpus(path: Path, tokenizer: PreTrainedTokenizerFast) -> Corpus:
    """Tokenise the training text and collect what retrieval documents need."""
    texts = list(read_texts(path))
    if len(tokenizer) > 1 << 16:
        raise RecipeError(f"the stream holds 16-bit ids; {len(tokenizer)} tokens are too many")
    ids: list[int] = []
    for encoding in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False):
        ids.append(tokenizer.eos_token_id)
        ids.extend(encoding.ids)
    counts = Counter(word for text in texts for word in KEY_WORD.findall(text))
    key_words = sorted(word for word, count in counts.items() if count >= MIN_WORD_COUNT)
    sentences = [part for text in texts[:HAYSTACK_PARAGRAPHS] for part in SENTENCE_END.split(text)]
    num_bytes = sum(len(text.encode()) for text in texts)
    return Corpus(np.array(ids, dtype=np.uint16), key_words, sentences, len(texts), num_bytes)
