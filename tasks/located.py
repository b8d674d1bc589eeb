"""YAML files with the place of every field, so that an error can name line and column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from basis.errors import FileError
from basis.files import read_text
from basis.yaml_loader import compose

Trail = tuple[str | int, ...]
PLAIN = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Place:
    """Line and column, from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Located:
    """Where the fields of one file are."""

    file: Path
    places: dict[Trail, Place]

    def where(self, trail: Trail) -> str:
        """`file:line:column` of a field, or of the nearest field around it that the file has."""
        while trail and trail not in self.places:
            trail = trail[:-1]
        place = self.places.get(trail, Place(1, 1))
        return f"{self.file}:{place.line}:{place.column}"


def locate(file: Path) -> Located:
    """The places of a file's fields.

    Raises:
        FileError: the file cannot be read or is not YAML, or a field stands there twice; the message begins with the
            file, and the line and column if known.
    """
    root = compose(read_text(file), str(file))
    _refuse_tags(root, file)
    places = {trail: Place(node.start_mark.line + 1, node.start_mark.column + 1) for trail, node in _walk(root, ())}
    return Located(file, places)


def _refuse_tags(node: Any, file: Path) -> None:
    """Only lm-eval's `!function` and plain YAML are understood."""
    if node is None:
        return
    mark = node.start_mark
    where = f"{file}:{mark.line + 1}:{mark.column + 1}"
    if node.tag == "!function":
        if not isinstance(node, yaml.ScalarNode):
            raise FileError(f"{where}: !function must name one function, such as !function tasks.scoring.score_needles")
    elif not node.tag.startswith(PLAIN) or node.tag.startswith(f"{PLAIN}python"):
        raise FileError(f"{where}: no such tag {node.tag}; only !function is known")
    for below in node.value if isinstance(node, yaml.CollectionNode) else ():
        for each in below if isinstance(below, tuple) else (below,):
            _refuse_tags(each, file)


def _walk(node: Any, trail: Trail) -> Iterator[tuple[Trail, Any]]:
    """Every field with its node; the place of a mapping's field is that of its name."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            below = (*trail, str(name.value))
            yield below, name
            yield from _walk(value, below)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*trail, index), value
            yield from _walk(value, (*trail, index))
