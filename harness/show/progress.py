"""How a run goes, drawn: a bar in a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from harness.checkpoints.imports import Imported
from harness.engine.meter import Status
from harness.records.record import Cell
from harness.show.imports import print_import
from harness.words import counted, short

LINE_SECONDS = 10.0  # between two lines where there is no terminal to draw a bar in


def spinner(console: Console) -> Status:
    """A spinner behind a text, on a console."""

    @contextmanager
    def status(text: str) -> Iterator[Callable[[str], None]]:
        with console.status(escape(text)) as shown:
            yield lambda other: shown.update(escape(other))

    return status


class RunProgress:
    """A bar in a terminal, a line every ten seconds elsewhere, and a line for every finished task.

    Implements `harness.runs.listener.Listener`.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._title = ""
        self._bar: Progress | None = None
        self._kind, self._requests, self._total_requests, self._done, self._total = "", 0, 0, 0, 0
        self._started = self._last_line = 0.0

    def status(self, text: str) -> AbstractContextManager[Callable[[str], None]]:
        """A spinner with a text."""
        return spinner(self.console)(text)

    def imported(self, found: Imported) -> None:
        """What an import did, or where an earlier one is."""
        for note in found.notes:
            self.note(note)
        if found.is_new:
            print_import(found, self.console)
        else:
            self.note(f"imported earlier: {found.folder}")

    def note(self, text: str) -> None:
        """A line of its own."""
        self.console.print(Text(text), soft_wrap=True)

    def begin_tasks(self, title: str) -> None:
        """What the next bars are about."""
        self._title = title

    def finish_task(self, number: int, count: int, cell: Cell, *, earlier: bool) -> None:
        """A finished task in a line."""
        note = "  (from an interrupted run)" if earlier else ""
        self.console.print(Text(f"{number}/{count} {summary_line(cell)}{note}"), soft_wrap=True)

    def begin(self, kind: str, requests: int, tokens: int) -> None:
        """Draw a new bar."""
        self._kind, self._requests, self._total_requests, self._done, self._total = kind, 0, requests, 0, tokens
        self._started = self._last_line = time.monotonic()
        if self.console.is_terminal:
            self._bar = Progress(
                _Title(),  # gives way where the terminal is narrow, after the bar
                BarColumn(bar_width=None, table_column=Column(ratio=1)),
                _Counts(table_column=Column(no_wrap=True)),
                _Rate(table_column=Column(no_wrap=True)),
                TimeElapsedColumn(table_column=Column(no_wrap=True)),
                TextColumn("left", table_column=Column(no_wrap=True)),
                TimeRemainingColumn(table_column=Column(no_wrap=True)),
                console=self.console,
                transient=True,
                expand=True,
            )
            self._bar.add_task(f"{self._title} {kind}".strip(), total=tokens, requests=f"0/{requests}")
            self._bar.start()

    def advance(self, requests: int, tokens: int, saved: int = 0) -> None:
        """Move the bar, or write a line now and then."""
        self._requests += requests
        self._done += tokens + saved
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, advance=tokens + saved, requests=f"{self._requests}/{self._total_requests}")
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            self.console.print(self._line(), highlight=False, soft_wrap=True)

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _line(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-6)
        rate = self._done / seconds
        left = (self._total - self._done) / rate if rate else float("nan")
        return (
            f"{self._title} {self._kind}: {self._requests}/{self._total_requests} requests, "
            f"{self._done:,} of {self._total:,} tokens, {rate:,.0f} tokens/s, {left:.0f} s left"
        )


def summary_line(cell: Cell) -> str:
    """One finished task in a line."""
    metric, score = next(iter(cell.scores.items()), ("", None))
    scores = "no score" if score is None else f"{metric} {score.value:.4g} (n={score.n}"
    rate = f"{cell.tokens / cell.seconds:,.0f} tokens/s" if cell.seconds and cell.tokens else ""
    cut = f", {counted(cell.truncated, 'request')} cut" if cell.truncated else ""
    return f"{cell.protocol.label:<22} {scores}{cut}{'' if score is None else ')'}  {cell.seconds:.0f} s, {rate}"


class _Title(ProgressColumn):
    """The title, cut where the terminal is narrow."""

    def render(self, task: Task) -> Text:
        """The text of a bar."""
        return Text(task.description, no_wrap=True, overflow="ellipsis")


class _Counts(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.fields['requests']} · {short(task.completed)}/{short(task.total or 0)} tokens")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="dim")
