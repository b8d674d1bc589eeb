"""How a run goes, drawn: a bar in a terminal, lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from harness.words import short

LINE_SECONDS = 10.0  # between two lines where there is no terminal to draw a bar in


class RichProgress:
    """A bar in a terminal, a line every ten seconds elsewhere; both on the given console.

    Attributes:
        title: what is being run, shown before the phase.
        tokens: tokens read and generated over all phases.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.title = ""
        self.tokens = 0
        self._bar: Progress | None = None
        self._kind, self._requests, self._total_requests, self._done, self._total = "", 0, 0, 0, 0
        self._started = self._last_line = 0.0

    def begin(self, kind: str, requests: int, tokens: int) -> None:
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
            self._bar.add_task(f"{self.title} {kind}".strip(), total=tokens, requests=f"0/{requests}")
            self._bar.start()

    def advance(self, requests: int, tokens: int, saved: int = 0) -> None:
        self._requests += requests
        self._done += tokens + saved
        self.tokens += tokens
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, advance=tokens + saved, requests=f"{self._requests}/{self._total_requests}")
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            self.console.print(self._line(), highlight=False, soft_wrap=True)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _line(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-6)
        rate = self._done / seconds
        left = (self._total - self._done) / rate if rate else float("nan")
        return (
            f"{self.title} {self._kind}: {self._requests}/{self._total_requests} requests, "
            f"{self._done:,} of {self._total:,} tokens, {rate:,.0f} tokens/s, {left:.0f} s left"
        )


class _Title(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.description, no_wrap=True, overflow="ellipsis")


class _Counts(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.fields['requests']} · {short(task.completed)}/{short(task.total or 0)} tokens")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="dim")
