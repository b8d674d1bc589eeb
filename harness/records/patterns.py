"""Names that people type with `*`, `?` and `[…]`."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable


def quoted(names: Iterable[str]) -> str:
    """Names in a list of a message, each once and in quotes, for they may have commas: `'a', 'papers, hybrid/b'`."""
    return ", ".join(map(repr, dict.fromkeys(names)))


def matches(pattern: str, names: Iterable[str]) -> bool:
    """Whether a pattern means one of the names; the case of letters does not matter, and a name means itself."""
    lower = pattern.lower()
    return any(name.lower() == lower or fnmatch.fnmatchcase(name.lower(), lower) for name in names)
