"""Tokenizers for documents: load by path, decide what comes in front of a sequence, count and locate tokens.

The context prefix is part of what is measured (a stray BOS moves needle scores), so it is a named choice:
`tokenizer` (what the tokenizer puts in front by default), `none`, `bos`, `eos`, or `lm-eval` (as `tokenizer`, but a
perplexity scores the prefix as if it were text). Nothing is ever appended.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from basis.hub import snapshot_folder
from basis.names import must_be_one_of, or_near
from tasks import data
from tasks.errors import TaskError
from tasks.text.tokenizer_loading import read_tokenizer

ContextPrefix = Literal["tokenizer", "none", "bos", "eos", "lm-eval"]
SCORED_PREFIX = "lm-eval"
"""The prefix that a perplexity scores with the text, as lm-eval's HFLM does with a tokenizer's BOS."""
CONTEXT_PREFIXES: tuple[str, ...] = get_args(ContextPrefix)
WEIGHTS = (".safetensors", ".bin", ".pth", ".pt")
_PROBE = "a"
_PROBE_TEXT = "The grass is green: 0123456789."


def load_tokenizer(path: str | Path) -> Any:
    """Load a Hugging Face tokenizer, once a process; the network is never asked.

    Args:
        path: a folder, the name of a staged tokenizer, or a name that the hub's cache on this machine has.

    Returns:
        A transformers tokenizer, as `tasks.text.tokenizer_loading` reads it.

    Raises:
        TaskError: there is no such tokenizer here, or it cannot be used.
        FileError: one of its files is damaged.
    """
    folder = tokenizer_folder(path)
    return _load_tokenizer(str(folder), str(path), _state(folder))


def prefix_ids(tokenizer: Any, context_prefix: str = "tokenizer") -> list[int]:
    """Token ids that come before every context under this policy.

    Raises:
        TaskError: an unknown policy, or a BOS or EOS that the tokenizer does not have.
    """
    if context_prefix == "none":
        return []
    if context_prefix in ("tokenizer", SCORED_PREFIX):
        return _default_prefix(tokenizer)
    if context_prefix not in CONTEXT_PREFIXES:
        raise TaskError(f"context_prefix {must_be_one_of(CONTEXT_PREFIXES, context_prefix)}")
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
        """Count with a tokenizer.

        Args:
            tokenizer: a transformers tokenizer.

        Raises:
            TaskError: one that encodes text to no tokens.
        """
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
def _load_tokenizer(folder: str, name: str, _changed: tuple[tuple[str, int, int], ...]) -> Any:
    return read_tokenizer(Path(folder), name)


def _state(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, times and sizes of the files: a tokenizer that was changed meanwhile is another one."""
    files = sorted(file for file in folder.iterdir() if file.suffix not in WEIGHTS and file.is_file())
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)


def tokenizer_folder(path: str | Path) -> Path:
    """Find where the files of a tokenizer are: in the folder of that name, staged, or in the hub's cache.

    Args:
        path: as for `load_tokenizer`.

    Returns:
        An existing folder.

    Raises:
        TaskError: there is none.
    """
    name = str(path)
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return snapshot_folder(folder)
    absent = f"tokenizer {name}: no such folder"
    if not name or folder.is_absolute() or name.startswith((".", "~")):
        raise TaskError(f"{absent}; give a folder with tokenizer.json, or the name of a staged tokenizer")
    staged = data.tokenizer_dir(name)
    if staged.is_dir():
        return staged
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (OSError, HFValidationError) as error:
        near = or_near(name, data.staged_tokenizers())
        raise TaskError(
            f"{absent}, not staged, and not in the hub's cache; give a folder with tokenizer.json, or run "
            f"`python run_eval.py stage --tokenizer {name}` on a connected machine{near}"
        ) from error


def _default_prefix(tokenizer: Any) -> list[int]:
    plain = list(tokenizer.encode(_PROBE, add_special_tokens=False))
    full = list(tokenizer.encode(_PROBE, add_special_tokens=True))
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return full[:start]
    raise TaskError("context_prefix 'tokenizer': its default special tokens change the text; use none, bos or eos")
