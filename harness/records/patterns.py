"""Names that people type with `*`, `?` and `[…]`."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable


def matches(pattern: str, names: Iterable[str]) -> bool:
    """Whether a pattern means one of the names; the case of letters does not matter, and a name means itself."""
    lower = pattern.lower()
    return any(name.lower() == lower or fnmatch.fnmatchcase(name.lower(), lower) for name in names)
