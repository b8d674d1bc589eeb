"""Names that people type with `*`, `?` and `[…]`."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

from basis.errors import or_near

MOST_LISTED = 20
"""Names in a message."""


def quoted(names: Iterable[str]) -> str:
    """Names in a list of a message, each once and in quotes, for they may have commas: `'a', 'papers, hybrid/b'`."""
    return ", ".join(map(repr, dict.fromkeys(names)))


def there_are(name: str, known: Iterable[str]) -> str:
    """What names there are, for a message of one that is none of them; the nearest is said where one looks like it.

    Args:
        name: as it was typed.
        known: the names, of which the first twenty are listed.
    """
    names = list(dict.fromkeys(known))
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return f"there are {quoted(names[:MOST_LISTED]) or 'none'}{more}{or_near(name, names)}"


def matches(pattern: str, names: Iterable[str]) -> bool:
    """Whether a pattern means one of the names; the case of letters does not matter, and a name means itself."""
    lower = pattern.lower()
    return any(name.lower() == lower or fnmatch.fnmatchcase(name.lower(), lower) for name in names)
