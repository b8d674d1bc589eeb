"""What is wrong with a specification: messages with the path of the field, so that a file's line can be named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from basis.names import way_out
from tasks.errors import TaskError

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One mistake; `path` are the names (and indices) that lead to the field."""

    path: Path
    message: str

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.message}" if self.path else self.message

    def below(self, *prefix: str | int) -> Problem:
        """The same problem in a larger structure."""
        return Problem((*prefix, *self.path), self.message)


def dotted(path: Path) -> str:
    """A path as text, such as `spec.value.items[2]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def unknown_fields(fields: Mapping[Any, Any], known: Iterable[str]) -> list[Problem]:
    """One problem for each field that does not exist."""
    names = tuple(known)
    return [
        Problem((str(name),), f"unknown field; {way_out(name, sorted(names))}") for name in fields if name not in names
    ]


def raise_first(problems: Iterable[Problem], where: str) -> None:
    """Raise the first problem as a TaskError; nothing if there is none."""
    for problem in problems:
        raise TaskError(str(problem.below(where)))


def problem_of(error: TaskError) -> Problem:
    """The problem that a specification raised; its field is the one that the message names."""
    message = str(error).removeprefix("spec: ")
    named = re.search(r"field '(\w+)'", message)
    return Problem((named[1],) if named else (), message)
