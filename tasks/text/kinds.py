"""Kinds of keys and values: how one is drawn, and whether a text already contains it.

A kind is written as a name (`words`, `numbers`, `uuids`) or as a mapping with `kind` and its options.
"""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from basis.errors import FileError
from basis.files import read_text, split_lines
from basis.names import way_out
from tasks.errors import TaskError
from tasks.problems import Problem, unknown_fields
from tasks.text.patterns import from_pattern
from tasks.text.words import word_lists

Draw = Callable[[random.Random], str]
SimpleKind = Literal["words", "numbers", "uuids"]
"""A kind without options: `adjective-noun`, a number of seven digits, a UUID of version 4."""
TRIES = 1000


@dataclass(frozen=True)
class Corpus:
    """A text that is asked whether it contains something, case ignored as scoring ignores it."""

    text: str = field(repr=False)

    def contains(self, item: str) -> bool:
        """Whether `item` occurs anywhere. An item without white space can only occur inside a word."""
        wanted = item.lower()
        if any(character.isspace() for character in wanted):
            return wanted in self._lower
        return wanted in (self._with_digits if any(c.isdigit() for c in wanted) else self._words)

    @cached_property
    def _lower(self) -> str:
        return self.text.lower()

    @cached_property
    def _words(self) -> str:
        return " ".join(dict.fromkeys(self._lower.split()))

    @cached_property
    def _with_digits(self) -> str:
        return " ".join(word for word in self._words.split() if re.search(r"\d", word))


def word_pair(rng: random.Random) -> str:
    """`adjective-noun`, as RULER's keys."""
    adjectives, nouns = word_lists()
    return f"{rng.choice(adjectives)}-{rng.choice(nouns)}"


def number(rng: random.Random, digits: int = 7) -> str:
    """A number of `digits` digits that does not begin with 0."""
    return str(rng.randint(10 ** (digits - 1), 10**digits - 1))


def uuid4(rng: random.Random) -> str:
    """A UUID of version 4."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


SIMPLE: dict[str, Draw] = {"words": word_pair, "numbers": number, "uuids": uuid4}


@dataclass(frozen=True)
class Kind:
    """A kind of keys or values: how to draw one, and all of them where they were listed."""

    name: str
    draw: Draw
    items: tuple[str, ...] = ()
    file: Path | None = None
    """That the items were read from."""


OPTIONS: dict[str, tuple[str, ...]] = {
    "words": (),
    "numbers": ("digits",),
    "uuids": (),
    "regex": ("pattern",),
    "list": ("items",),
    "file": ("path",),
}


def parse_kind(raw: Any, folder: Path) -> Kind | list[Problem]:
    """A kind as written in YAML, or what is wrong with it.

    Args:
        raw: a name, a list of items, or a mapping with `kind` and its options.
        folder: what the path of a file is relative to.
    """
    if isinstance(raw, list):
        return _listed(raw, ())
    fields = {"kind": raw} if isinstance(raw, str) else raw
    if not isinstance(fields, Mapping) or "kind" not in fields:
        return [Problem((), f"must be a kind ({', '.join(OPTIONS)}), a list, or a mapping with 'kind', got {raw!r}")]
    name = fields["kind"]
    if not isinstance(name, str) or name not in OPTIONS:
        path = () if isinstance(raw, str) else ("kind",)
        return [Problem(path, f"no such kind {name!r}; {way_out(name, OPTIONS)}")]
    problems = unknown_fields(fields, ("kind", *OPTIONS[name]))
    missing = [option for option in OPTIONS[name] if option not in fields and name != "numbers"]
    problems += [Problem((option,), f"is missing; kind {name!r} needs it") for option in missing]
    return problems or _build(str(name), fields, folder)


def _build(name: str, fields: Mapping[str, Any], folder: Path) -> Kind | list[Problem]:
    if name in ("words", "uuids"):
        return Kind(name, SIMPLE[name])
    if name == "numbers":
        digits = fields.get("digits", 7)
        if type(digits) is not int or not 1 <= digits <= 100:
            return [Problem(("digits",), f"must be a whole number from 1 to 100, got {digits!r}")]
        return Kind(name, lambda rng: number(rng, digits))
    if name == "regex":
        try:
            return Kind(name, from_pattern(str(fields["pattern"])))
        except ValueError as error:
            return [Problem(("pattern",), str(error))]
    if name == "list":
        return _listed(fields["items"], ("items",))
    file = folder / str(fields["path"])
    try:
        lines = split_lines(read_text(file))
    except FileError as error:
        return [Problem(("path",), f"{error}; give a text file with an item a line")]
    listed = _listed([line.strip() for line in lines if line.strip()], ("path",))
    return replace(listed, file=file) if isinstance(listed, Kind) else listed


def _listed(items: Any, path: tuple[str, ...]) -> Kind | list[Problem]:
    if not isinstance(items, list) or not items:
        return [Problem(path, f"must be a list with at least one item, got {items!r}")]
    for index, item in enumerate(items):
        if not isinstance(item, str | int) or isinstance(item, bool) or not str(item).strip():
            return [Problem((*path, index), f"must be text, got {item!r}; put it in quotes")]
    texts = tuple(dict.fromkeys(str(item) for item in items))
    return Kind("list", lambda rng: rng.choice(texts), texts)


def draw_distinct(
    rng: random.Random, draw: Draw, count: int, *, what: str, absent_from: Sequence[Corpus], taken: Sequence[str] = ()
) -> list[str]:
    """`count` different items; none occurs in a corpus, in another, or in one of `taken`, nor the other way round.

    Args:
        rng: what chance is drawn from.
        draw: draws one item.
        count: how many are wanted.
        what: the kind, for the error message.
        absent_from: texts that hold none of the items.
        taken: items that were drawn before.

    Raises:
        TaskError: too few such items were found in 1000 tries an item.
    """
    found: list[str] = []
    others = _Lowered(taken)
    collisions = 0
    for _ in range(count * TRIES):
        if len(found) == count:
            return found
        item = draw(rng)
        if others.overlap(item):
            continue
        if any(corpus.contains(item) for corpus in absent_from):
            collisions += 1
            continue
        found.append(item)
        others.add(item)
    if len(found) == count:
        return found
    reason = f"; {collisions} drawn ones occur in the haystack" if collisions else ""
    raise TaskError(f"cannot draw {count} different {what}{reason}: use longer ones, or more to choose from")


class _Lowered:
    """Items, case ignored, that are asked often whether one of them holds another or lies in it."""

    def __init__(self, items: Sequence[str]) -> None:
        self._items: set[str] = set()
        self._lengths: set[int] = set()
        self._joined = ""
        for item in items:
            self.add(item)

    def add(self, item: str) -> None:
        """Take one more."""
        small = item.lower()
        self._items.add(small)
        self._lengths.add(len(small))
        self._joined += f"{small}\0"

    def overlap(self, item: str) -> bool:
        """Whether an item lies in one of these, or one of these in it."""
        small = item.lower()
        if small in self._joined and any(small in other for other in self._items):
            return True
        return any(
            small[start : start + length] in self._items
            for length in self._lengths
            for start in range(len(small) - length + 1)
        )
