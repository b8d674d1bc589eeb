"""Errors of task definitions and of document generation."""

from __future__ import annotations

from basis.errors import UserError


class TaskError(UserError, ValueError):
    """A task, suite or specification that cannot be used; the message names the field or file and the way out."""

    field: tuple[str | int, ...] = ()
    """The field of the spec that is wrong, where a file's line can be named for it."""

    def at(self, *field: str | int) -> TaskError:
        """The same error, with its field."""
        self.field = field
        return self
