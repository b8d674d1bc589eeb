"""What `stage --list` and `stage --verify` print."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from basis.program import as_called
from harness.staging.offline import Check, FileState

STYLES = {"staged": "green", "missing": "dim", "changed": "bold red"}


def print_states(states: Sequence[FileState], used_by: dict[str, list[str]], console: Console) -> None:
    """One line a data file: its state, size, source, and the suites that read it."""
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for title in ("file", "state", "size", "source", "suites"):
        whole = title in ("file", "state")
        drawn.add_column(title, justify="right" if title == "size" else "left", overflow="fold", no_wrap=whole)
    for state in states:
        drawn.add_row(
            state.name,
            Text(state.state, style=STYLES[state.state]),
            "" if state.bytes is None else _size(state.bytes),
            state.source,
            ", ".join(used_by.get(state.name, [])),
        )
    console.print(drawn)


def print_checks(checks: Sequence[Check], console: Console) -> None:
    """One line a file or task."""
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for title in ("file or task", "", "what was seen"):
        drawn.add_column(title, overflow="fold")
    for check in checks:
        verdict = Text("holds", style="green") if check.passed else Text("fails", style="bold red")
        drawn.add_row(check.name, verdict, Text(as_called(check.detail)))
    console.print(drawn)


def _size(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 1e5 else f"{number / 1e3:.1f} kB"
