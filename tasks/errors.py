"""Errors of task definitions and of document generation."""

from __future__ import annotations


class TaskError(ValueError):
    """A task, suite or specification that cannot be used; the message names the field or file and the way out."""
