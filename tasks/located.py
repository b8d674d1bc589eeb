"""YAML files with the place of every field, so that an error can name line and column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Trail = tuple[str | int, ...]
PLAIN = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Place:
    """Line and column, from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Located:
    """Where the fields of one file are; `repeated` are fields that are given twice, of which YAML keeps the last."""

    file: Path
    places: dict[Trail, Place]
    repeated: tuple[Trail, ...]

    def where(self, trail: Trail) -> str:
        """`file:line:column` of a field, or of the nearest field around it that the file has."""
        while trail and trail not in self.places:
            trail = trail[:-1]
        place = self.places.get(trail, Place(1, 1))
        return f"{self.file}:{place.line}:{place.column}"


class SyntaxProblem(ValueError):
    """The file is not YAML; the message begins with `file:line:column`."""


def locate(file: Path) -> Located:
    """The places of a file's fields.

    Raises:
        SyntaxProblem: not YAML.
        OSError, UnicodeDecodeError: the file cannot be read.
    """
    text = file.read_text(encoding="utf-8")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        raise SyntaxProblem(f"{place}: not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise SyntaxProblem(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    _refuse_tags(root, file)
    places: dict[Trail, Place] = {}
    repeated: list[Trail] = []
    for trail, node in _walk(root, ()):
        if trail in places:
            repeated.append(trail)
        places[trail] = Place(node.start_mark.line + 1, node.start_mark.column + 1)
    return Located(file, places, tuple(repeated))


def _refuse_tags(node: Any, file: Path) -> None:
    """Only lm-eval's `!function` and plain YAML are understood."""
    if node is None:
        return
    if node.tag != "!function" and (not node.tag.startswith(PLAIN) or node.tag.startswith(f"{PLAIN}python")):
        mark = node.start_mark
        raise SyntaxProblem(
            f"{file}:{mark.line + 1}:{mark.column + 1}: no such tag {node.tag}; only !function is known"
        )
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
