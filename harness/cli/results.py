"""`leaderboard`: our results beside the published ones."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.console import console
from harness.errors import UserError
from harness.paths import LEADERBOARD, require

if TYPE_CHECKING:
    from rich.console import Console

RUNS = Path("results/runs")


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    board = commands.add_parser("leaderboard", help="our results beside the published ones")
    board.add_argument("--suite", default="ruler_table3", help="the table: a suite by name, or a YAML file")
    board.add_argument(
        "--results", type=Path, nargs="+", help="folders of records (default: results/leaderboard, runs)"
    )
    board.add_argument("--format", choices=("terminal", "markdown"), default="terminal")
    board.add_argument("--output", type=Path, help="write to a file instead of the terminal")
    board.set_defaults(command=_leaderboard)


def _leaderboard(args: argparse.Namespace) -> None:
    folders = args.results or existing((require(LEADERBOARD), RUNS))
    if args.format == "terminal" and args.output is None:
        print_leaderboard(args.suite, folders, console())
        return
    from harness.records.leaderboard import build_table
    from harness.records.store import find_records
    from tasks.registry import load_suite

    table = build_table(load_suite(args.suite), find_records(folders))
    if args.format == "markdown":
        from harness.show.markdown import to_markdown

        text = to_markdown(table)
    else:
        from harness.show.terminal import to_text

        text = to_text(table)
    if args.output is None:
        print(text, end="")
    else:
        _write(args.output, text)


def print_leaderboard(suite: str, folders: Sequence[Path], on: Console) -> None:
    """Draw the table of a suite from the records below some folders."""
    from harness.records.leaderboard import build_table
    from harness.records.store import find_records
    from harness.show.terminal import print_table
    from tasks.registry import load_suite

    print_table(build_table(load_suite(suite), find_records(folders)), on)


def existing(folders: Sequence[Path]) -> list[Path]:
    """The folders that exist, none inside another's tree twice."""
    found: list[Path] = []
    for folder in folders:
        if folder.is_dir() and not any(folder.resolve().is_relative_to(other.resolve()) for other in found):
            found.append(folder)
    return found


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot write there ({error.strerror}); choose another --output") from error
