"""Errors of task definitions and of document generation."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from basis.errors import UserError


class TaskError(UserError, ValueError):
    """A task, suite or specification that cannot be used; the message names the field or file and the way out."""

    field: tuple[str | int, ...] = ()
    """The field of the spec that is wrong, where a file's line can be named for it."""

    def at(self, *field: str | int) -> TaskError:
        """The same error, with its field."""
        self.field = field
        return self


def unknown_field(where: str, name: object, known: Iterable[str]) -> str:
    """The message for a field that does not exist: the nearest name, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{where}: unknown field {name!r}; {hint}known: {', '.join(names)}"
