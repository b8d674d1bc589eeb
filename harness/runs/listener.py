"""Who is told how a run goes, while it goes. What a run found is its return value; this is for those who wait."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from harness.checkpoints.imports import Imported
from harness.engine.meter import NullProgress, ProgressSink, no_status
from harness.records.record import Cell


class Listener(ProgressSink, Protocol):
    """Hears of the steps of a run, and as a `ProgressSink` of requests and tokens."""

    def status(self, text: str) -> AbstractContextManager[Callable[[str], None]]:
        """Something begins that takes a while and has no progress of its own; it ends with the context."""
        ...

    def imported(self, found: Imported) -> None:
        """A foreign checkpoint was imported, or found imported."""
        ...

    def note(self, text: str) -> None:
        """Something that a user should know."""
        ...

    def begin_tasks(self, title: str) -> None:
        """Some tasks begin that are run in one call."""
        ...

    def finish_task(self, number: int, count: int, cell: Cell, *, earlier: bool) -> None:
        """A task is finished.

        Args:
            number: which it is, from 1.
            count: how many tasks the run has.
            cell: what it gave.
            earlier: whether an interrupted run had finished it.
        """
        ...


class Silence(NullProgress):
    """Hears nothing."""

    def status(self, text: str) -> AbstractContextManager[Callable[[str], None]]:
        """No text is shown."""
        return no_status(text)

    def imported(self, found: Imported) -> None:
        """An import is not announced."""

    def note(self, text: str) -> None:
        """Notes are not shown."""

    def begin_tasks(self, title: str) -> None:
        """Tasks that begin are not announced."""

    def finish_task(self, number: int, count: int, cell: Cell, *, earlier: bool) -> None:
        """Finished tasks are not announced."""
