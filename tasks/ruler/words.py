"""Keys and values of needles: word pairs, seven-digit numbers, UUIDs. Every draw takes its own generator."""

from __future__ import annotations

import importlib.util
import random
import uuid
from functools import lru_cache
from pathlib import Path
from typing import Literal

from tasks.errors import TaskError

Kind = Literal["words", "numbers", "uuids"]


def draw(rng: random.Random, kind: Kind) -> str:
    """One key or value: `adjective-noun`, a number of seven digits, or a UUID of version 4."""
    if kind == "numbers":
        return str(rng.randint(10**6, 10**7 - 1))
    if kind == "uuids":
        return str(uuid.UUID(int=rng.getrandbits(128), version=4))
    adjectives, nouns = word_lists()
    return f"{rng.choice(adjectives)}-{rng.choice(nouns)}"


def draw_distinct(rng: random.Random, kind: Kind, count: int, *, absent_from: str) -> list[str]:
    """`count` different keys or values, none of which occurs in the text `absent_from`."""
    drawn: list[str] = []
    for _ in range(count * 1000):
        if len(drawn) == count:
            return drawn
        item = draw(rng, kind)
        if item not in absent_from and not any(item in other or other in item for other in drawn):
            drawn.append(item)
    raise TaskError(f"cannot draw {count} distinct {kind} that the haystack does not contain")


@lru_cache(maxsize=1)
def word_lists() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Adjectives and nouns of the package wonderwords, distinct and sorted; read as files, so nothing is imported."""
    found = importlib.util.find_spec("wonderwords")
    if found is None or not found.submodule_search_locations:
        raise TaskError("the word lists come from the package wonderwords: pip install wonderwords==3.0.1")
    assets = Path(found.submodule_search_locations[0]) / "assets"
    return _lines(assets / "adjectivelist.txt"), _lines(assets / "nounlist.txt")


def _lines(file: Path) -> tuple[str, ...]:
    return tuple(sorted({line.rstrip() for line in file.read_text(encoding="utf-8").splitlines()} - {""}))
