"""`leaderboard`: our results beside the published ones."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.console import console
from harness.paths import LEADERBOARD, require
from harness.show.formats import DEFAULT, FORMATS, format_for

if TYPE_CHECKING:
    from rich.console import Console

    from harness.records.record import RunRecord
    from harness.records.table import Table

RUNS = Path("results/runs")


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    board = commands.add_parser("leaderboard", help="our results beside the published ones")
    board.add_argument(
        "--suite",
        default="ruler_table3",
        help="the table: a suite by name, a YAML file, or `tasks` for runs of --tasks",
    )
    board.add_argument(
        "--results", type=Path, nargs="+", help="folders of records (default: results/leaderboard, runs)"
    )
    board.add_argument("--format", choices=FORMATS, help="default: by the ending of --output, else terminal")
    board.add_argument("--output", type=Path, help="write to a file, such as table.md, instead of the terminal")
    board.set_defaults(command=_leaderboard)


def _leaderboard(args: argparse.Namespace) -> None:
    from basis.files import write_atomically

    name = format_for(args.format, args.output)
    table = table_of(args.suite, args.results or existing((require(LEADERBOARD), RUNS)))
    if args.output is not None:
        write_atomically(args.output, FORMATS[name].write(table))
    elif name == DEFAULT:
        _draw(table, console())
    else:
        print(FORMATS[name].write(table), end="")


def print_leaderboard(suite: str, folders: Sequence[Path], on: Console, run: RunRecord | None = None) -> None:
    """Print the table of a suite.

    Args:
        suite: its name or file; `tasks` for tasks that were named.
        folders: where records are.
        on: the terminal.
        run: one that was just finished; it has a row of its own where the table shows other numbers.
    """
    _draw(table_of(suite, folders, run), on)


def table_of(suite: str, folders: Sequence[Path], run: RunRecord | None = None) -> Table:
    """Build the table of a suite from the records below folders.

    A record that cannot be read is named on stderr and left out.

    Args:
        suite: its name or file; `tasks` for tasks that were named, of all runs or of `run`.
        folders: where records are.
        run: as for `print_leaderboard`.

    Raises:
        UserError: an unknown suite, or a folder that does not exist.
    """
    from harness.records.leaderboard import build_table
    from harness.records.named_tasks import NAME, suite_of
    from harness.records.store import find_records
    from tasks.registry import load_suite

    wanted = None if suite == NAME else load_suite(suite)
    records = find_records(folders, _left_out)
    if wanted is None:
        wanted = suite_of([record for _, record in records] if run is None else [run], _left_out)
    return build_table(wanted, records, run=run)


def _draw(table: Table, on: Console) -> None:
    from harness.show.terminal import print_table

    print_table(table, on)


def _left_out(problem: str) -> None:
    from harness.show.plain import plain

    print(f"left out: {plain(problem)}", file=sys.stderr)


def existing(folders: Sequence[Path]) -> list[Path]:
    """The folders that exist, none inside another's tree twice."""
    found: list[Path] = []
    for folder in folders:
        if folder.is_dir() and not any(folder.resolve().is_relative_to(other.resolve()) for other in found):
            found.append(folder)
    return found
