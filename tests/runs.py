"""Runs as the command line makes them, with a console that a test reads."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from harness.records.record import RunRecord
from harness.runs.options import RunOptions
from harness.runs.runner import run_options
from harness.show.progress import RunProgress


def run(options: RunOptions, console: Console) -> tuple[RunRecord, Path]:
    """The record of a run and its folder; progress and notes go to the console."""
    done = run_options(options, RunProgress(console))
    return done.record, done.folder
