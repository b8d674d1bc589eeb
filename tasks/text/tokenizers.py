"""Tokenizers for documents: load by path, decide what comes in front of a sequence, count and locate tokens.

The context prefix is part of what is measured (a stray BOS moves needle scores), so it is a named choice:
`tokenizer` (what the tokenizer puts in front by default), `none`, `bos` or `eos`. Nothing is ever appended.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from tasks import data
from tasks.errors import TaskError

ContextPrefix = Literal["tokenizer", "none", "bos", "eos"]
CONTEXT_PREFIXES: tuple[str, ...] = get_args(ContextPrefix)
_PROBE = "a"
_PROBE_TEXT = "The grass is green: 0123456789."


def load_tokenizer(path: str | Path) -> Any:
    """Load a Hugging Face tokenizer from a folder or a hub name, staged or not; loaded once per process.

    Raises:
        TaskError: the folder does not exist or holds no tokenizer that transformers can read.
    """
    staged = data.tokenizer_dir(str(path))
    return _load_tokenizer(str(staged if staged.is_dir() and not Path(path).expanduser().is_dir() else path))


def prefix_ids(tokenizer: Any, context_prefix: str = "tokenizer") -> list[int]:
    """Token ids that come before every context under this policy.

    Raises:
        TaskError: an unknown policy, or a BOS or EOS that the tokenizer does not have.
    """
    if context_prefix == "none":
        return []
    if context_prefix == "tokenizer":
        return _default_prefix(tokenizer)
    if context_prefix not in CONTEXT_PREFIXES:
        raise TaskError(f"context_prefix {context_prefix!r}: choose from {', '.join(CONTEXT_PREFIXES)}")
    token = getattr(tokenizer, f"{context_prefix}_token_id", None)
    if token is None:
        raise TaskError(
            f"context_prefix {context_prefix!r}: the tokenizer has no {context_prefix.upper()} token; use none"
        )
    return [int(token)]


def encode(tokenizer: Any, text: str, context_prefix: str = "tokenizer") -> list[int]:
    """Token ids of `text` with the context prefix in front and nothing behind."""
    return prefix_ids(tokenizer, context_prefix) + list(tokenizer.encode(text, add_special_tokens=False))


class TokenCounter:
    """Count and locate tokens of texts without special tokens; remembers what single words cost."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer if getattr(tokenizer, "is_fast", False) else None
        self._word_costs: dict[str, int] = {}
        if not self.count(_PROBE_TEXT):
            raise TaskError(f"the tokenizer encodes {_PROBE_TEXT!r} to no tokens; give a trained one by --tokenizer")
        self._probe_tokens = self.count(_PROBE)

    @property
    def is_fast(self) -> bool:
        """Whether `positions` costs one tokenisation, not one a character."""
        return self._backend is not None

    def count(self, text: str) -> int:
        """Number of tokens of the whole text."""
        if self._backend is not None:
            return len(self._backend.encode(text, add_special_tokens=False))
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def word_cost(self, word: str) -> int:
        """Tokens that a word, given with its leading separator, adds to a text. An estimate: context may change it."""
        cost = self._word_costs.get(word)
        if cost is None:
            cost = self._word_costs[word] = self.count(_PROBE + word) - self._probe_tokens
        return cost

    def positions(self, text: str, characters: Iterable[int]) -> list[int]:
        """Index of the token that covers each character of `text`."""
        if self._backend is None:
            return [self.count(text[:character].rstrip()) for character in characters]
        encoding = self._backend.encode(text, add_special_tokens=False)
        found = []
        for character in characters:
            token = encoding.char_to_token(character)
            while token is None and character < len(text):
                character += 1
                token = encoding.char_to_token(character)
            found.append(len(encoding) if token is None else token)
        return found


@lru_cache(maxsize=8)
def _load_tokenizer(path: str) -> Any:
    folder = Path(path).expanduser()
    if not folder.is_dir() and (folder.is_absolute() or path.startswith((".", "~"))):
        raise TaskError(f"tokenizer {path}: no such folder; give a folder with tokenizer.json, or a hub name")
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        return AutoTokenizer.from_pretrained(str(folder) if folder.is_dir() else path)
    except (OSError, ValueError, KeyError) as error:
        # A config.json of a model type that transformers does not know yet; the tokenizer itself lies beside it.
        if (folder / "tokenizer.json").is_file():
            return PreTrainedTokenizerFast.from_pretrained(str(folder))
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TaskError(
            f"tokenizer {path}: cannot be loaded ({reason}); give a folder with tokenizer.json, or a hub name"
        ) from error


def _default_prefix(tokenizer: Any) -> list[int]:
    plain = list(tokenizer.encode(_PROBE, add_special_tokens=False))
    full = list(tokenizer.encode(_PROBE, add_special_tokens=True))
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return full[:start]
    raise TaskError("context_prefix 'tokenizer': its default special tokens change the text; use none, bos or eos")
