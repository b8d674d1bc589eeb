"""`results list` in a terminal, as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from harness.analysis.listing import RunLine
from harness.analysis.tidy import harmless
from harness.show.plain import markdown, plain

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 110
"""Columns of a terminal that has room for whole names of machines."""
WIDTHS = {"date": 10, "cells": 5, "samples": 7, "kept": 4, "protocol": 8, "dtype": 8, "machine": 8}
"""What columns take at least, whatever the terminal."""


def print_runs(lines: Sequence[RunLine], console: Console) -> None:
    """Draw a line for each run."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    wide = console.width >= WIDE
    widths = dict(WIDTHS)
    if sum(_needs(lines)) > _left(widths, console.width):
        del widths["machine"]  # names are what a run is found by
    drawn = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    names, suites = _rooms(lines, _left(widths, console.width))
    drawn.add_column("model", overflow="fold", width=names)
    drawn.add_column("suite", no_wrap=True, overflow="ellipsis", width=suites)
    for title, least in widths.items():
        is_count = title in ("cells", "samples")
        drawn.add_column(title, no_wrap=True, min_width=least, justify="right" if is_count else "left")
    for line in lines:
        name, suite, machine = (plain(text) for text in (line.name, line.suite, line.machine))
        drawn.add_row(
            Text(name),
            Text(suite),
            Text(plain(line.date)),
            str(line.cells),
            f"{line.samples:,}",
            "yes" if line.has_samples else "no",
            Text(plain(line.protocol)),
            Text(plain(line.dtype)),
            *([Text(machine if wide else _short(machine))] if "machine" in widths else []),
        )
    console.print(drawn)
    said = "1 run" if len(lines) == 1 else f"{len(lines):,} runs"
    console.print(f"{said}; kept: whether the samples lie beside the record", style="dim")
    for line in lines:
        if line.added:
            console.print(Text(f"{plain(line.name)}, {plain(line.protocol)}: {plain(line.added)}", style="dim"))


def _left(widths: Mapping[str, int], width: int) -> int:
    """What the other columns leave of a terminal to model and suite."""
    return max(12, width - sum(widths.values()) - len(widths) - 1)


def _needs(lines: Sequence[RunLine]) -> tuple[int, int]:
    """Letters of the longest model and suite."""
    return (
        max([5, *(len(plain(line.name)) for line in lines)]),
        max([5, *(len(plain(line.suite)) for line in lines)]),
    )


def _rooms(lines: Sequence[RunLine], room: int) -> tuple[int, int]:
    """The columns of model and suite: what they need, or two thirds and a third; names that are longer are folded."""
    names, suites = _needs(lines)
    if names + suites > room:
        suites = min(suites, max(room // 3, room - names))
        names = min(names, room - suites)
    return names, suites


def _short(machine: str) -> str:
    """A machine in a few letters: `H100`, `EPYC`."""
    words = [word for word in re.split(r"[\s(]+", machine) if word not in ("NVIDIA", "AMD", "Intel", "R)", "GeForce")]
    return words[0][:8] if words else machine[:8]


def _csv(lines: Sequence[RunLine]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([item.name for item in fields(RunLine)])
    for line in lines:
        writer.writerow([harmless(value) for value in asdict(line).values()])
    return text.getvalue()


def _json(lines: Sequence[RunLine]) -> str:
    return json.dumps([asdict(line) for line in lines], indent=2) + "\n"


def _markdown(lines: Sequence[RunLine]) -> str:
    titles = [item.name for item in fields(RunLine) if item.name != "folder"]
    rows = [
        f"| {' | '.join('' if value is None else markdown(str(value)) for value in list(asdict(line).values())[:-1])} |"
        for line in lines
    ]
    return "\n".join([f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|", *rows]) + "\n"


FORMATS: dict[str, Callable[[Sequence[RunLine]], str]] = {"markdown": _markdown, "csv": _csv, "json": _json}
