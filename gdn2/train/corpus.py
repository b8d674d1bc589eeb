"""Text for training: paragraphs as one stream of token ids, and the words and sentences that haystacks are made of."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from basis.errors import FileError, reason
from basis.files import parse_json
from gdn2.train.fields import RecipeError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

KEY_WORD = re.compile(r"\b[a-z]{4,9}\b")
SENTENCE_END = re.compile(r"(?<=[.!?]) +(?=[A-Z])")
MIN_WORD_COUNT = 30
HAYSTACK_PARAGRAPHS = 8000
TOGETHER = 1 << 21  # characters that are tokenised at a time
OF_A_TEXT = 100  # characters for which a text counts, however short: an encoding takes memory by itself


@dataclass(frozen=True)
class Corpus:
    """The training text.

    Attributes:
        stream: all paragraphs, each behind an end-of-text token, uint16 [N].
        key_words: words that keys of retrieval documents are made of.
        sentences: sentences for haystacks.
        documents: number of paragraphs.
        num_bytes: their UTF-8 length.
    """

    stream: np.ndarray
    key_words: list[str]
    sentences: list[str]
    documents: int
    num_bytes: int

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the stream: a run is only continued over the text and the tokenizer that it began with."""
        return hashlib.sha256(np.ascontiguousarray(self.stream).tobytes()).hexdigest()


def read_texts(path: Path) -> Iterator[str]:
    """Read the "text" of each line; lines end at newlines only.

    Args:
        path: JSON lines, UTF-8, with or without a byte order mark.

    Yields:
        One text a line.

    Raises:
        RecipeError: the file is missing or cannot be read, or a line is not an object with "text".
    """
    try:
        if not path.is_file():
            raise RecipeError(
                f"{path}: text not found; fetch it with `python run_eval.py stage`, or correct the recipe's data"
            )
        with path.open("rb") as lines:
            for index, line in enumerate(lines):
                yield _text(line.removeprefix(b"\xef\xbb\xbf") if index == 0 else line, path, index + 1)
    except OSError as error:  # a name that is too long is one as well
        raise RecipeError(f"{path}: cannot be read ({reason(error)})") from error


def _text(line: bytes, path: Path, number: int) -> str:
    try:
        value = parse_json(line.decode("utf-8").rstrip("\r\n"), str(path), number)
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}:{number}: not UTF-8; save the file as UTF-8") from error
    except FileError as error:
        raise RecipeError(f'{error}; expected a JSON object with "text"') from error
    text = value.get("text") if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise RecipeError(f'{path}:{number}: expected a JSON object with a "text" that is a string')
    return text


def load_corpus(path: Path, tokenizer: PreTrainedTokenizerFast) -> Corpus:
    """Tokenise the training text and collect what retrieval documents need.

    Args:
        path: as for `read_texts`.
        tokenizer: its end-of-text token comes before every paragraph.

    Returns:
        The corpus.

    Raises:
        RecipeError: as `read_texts`; or the file holds no text; or the tokenizer has more than 2**16 tokens.
    """
    texts = list(read_texts(path))
    if not any(texts):
        raise RecipeError(f"{path}: no text in it; training needs at least one paragraph")
    if len(tokenizer) > 1 << 16:
        raise RecipeError(f"the stream holds 16-bit ids; {len(tokenizer)} tokens are too many")
    counts = Counter(word for text in texts for word in KEY_WORD.findall(text))
    key_words = sorted(word for word, count in counts.items() if count >= MIN_WORD_COUNT)
    sentences = [part for text in texts[:HAYSTACK_PARAGRAPHS] for part in SENTENCE_END.split(text)]
    num_bytes = sum(len(text.encode()) for text in texts)
    return Corpus(_stream(texts, tokenizer), key_words, sentences, len(texts), num_bytes)


def _stream(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """The ids of all texts, each behind an end of text, uint16; an encoding takes a hundred bytes a token meanwhile."""
    ids = array("H")
    for some in _batches(texts):
        for encoding in tokenizer.backend_tokenizer.encode_batch_fast(some, add_special_tokens=False):
            ids.append(tokenizer.eos_token_id)
            ids.extend(encoding.ids)
    return np.frombuffer(ids, dtype=np.uint16)


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in their order, TOGETHER characters at a time; a longer one by itself."""
    some: list[str] = []
    size = 0
    for text in texts:
        if some and size + len(text) + OF_A_TEXT > TOGETHER:
            yield some
            some, size = [], 0
        some.append(text)
        size += len(text) + OF_A_TEXT
    if some:
        yield some
