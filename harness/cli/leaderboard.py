"""`leaderboard`: our results beside the published ones."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.console import console
from harness.cli.recorded import add_results_option, left_out, result_folders
from harness.show.formats import DEFAULT, FORMATS, format_for
from harness.words import counted

if TYPE_CHECKING:
    from rich.console import Console

    from harness.analysis.selection import FoundRun
    from harness.records.record import RunRecord
    from harness.records.table import Table
    from harness.records.view import View
    from tasks.registry import Suite


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    board = commands.add_parser("leaderboard", help="our results beside the published ones")
    board.add_argument(
        "--suite",
        default="ruler_table3",
        help="the table: a suite by name, a YAML file, or `tasks` for runs of --tasks and of lm-eval",
    )
    add_results_option(board)
    board.add_argument(
        "--format",
        choices=FORMATS,
        metavar="FORMAT",
        help=f"{', '.join(FORMATS)}; default: by the ending of --output, else terminal",
    )
    board.add_argument("--output", type=Path, help="write to a file, such as table.md, instead of the terminal")
    board.add_argument("--intervals", action="store_true", help="Markdown and LaTeX: a second table, with intervals")
    _add_view(board)
    board.set_defaults(command=_leaderboard)


def _add_view(board: argparse.ArgumentParser) -> None:
    """What of the table is shown, and in which order."""
    about = board.add_argument_group("what is shown")
    about.add_argument("--sort", metavar="COLUMN", help="the best first, in each group: a column, `average`, or `name`")
    about.add_argument("--models", nargs="+", default=(), metavar="GLOB", help="rows by name, such as 'gdn2-*'")
    about.add_argument(
        "--columns", nargs="+", default=(), metavar="GLOB", help="columns by name, group, task or length: '*NIAH-1' 4K"
    )
    about.add_argument(
        "--seeds",
        nargs="?",
        const="all",
        choices=("all", "means"),
        help="the seeds of one training, as records say, below a row with their mean; or the means alone (default: "
        "models of their own)",
    )
    about.add_argument("--no-published", action="store_true", help="without the rows of papers")
    about.add_argument("--names", type=Path, metavar="FILE", help="a YAML file with `rename` and `groups` of rows")


def _leaderboard(args: argparse.Namespace) -> None:
    from basis.files import write_atomically

    name = format_for(args.format, args.output)
    folders = result_folders(args.results)
    table = table_of(args.suite, folders, published=not args.no_published, view=_view(args))
    if args.output is not None:
        write_atomically(args.output, FORMATS[name].write(table, args.intervals))
    elif name == DEFAULT:
        draw(table, console())
    else:
        print(FORMATS[name].write(table, args.intervals), end="")


def _view(args: argparse.Namespace) -> View:
    from harness.records.row_names import read_row_names
    from harness.records.view import View

    names = None if args.names is None else read_row_names(args.names)
    return View(models=tuple(args.models), columns=tuple(args.columns), sort=args.sort, names=names, seeds=args.seeds)


def print_leaderboard(suite: str, folders: Sequence[Path], on: Console, run: RunRecord | None = None) -> None:
    """Print the table of a suite.

    Args:
        suite: its name or file; `tasks` for tasks that were named.
        folders: where records are.
        on: the terminal.
        run: one that was just finished; it has a row of its own where the table shows other numbers.
    """
    draw(table_of(suite, folders, run), on)


def table_of(
    suite: str,
    folders: Sequence[Path],
    run: RunRecord | None = None,
    *,
    published: bool = True,
    view: View | None = None,
) -> Table:
    """Build the table of a suite from the records below folders.

    A record that cannot be read, or is a copy of another, is named on stderr and left out; so are all of them where
    none has a number for the table.

    Args:
        suite: its name or file; `tasks` for tasks that were named, of all runs or of `run`.
        folders: where records are.
        run: as for `print_leaderboard`.
        published: whether the papers' rows are added.
        view: which rows and columns are shown, and in which order; None: all as they come.

    Raises:
        UserError: an unknown suite, a folder that does not exist, or a model or column of the view that is not there.
    """
    from harness.analysis.selection import find_runs, without_those_apart
    from harness.records.leaderboard import build_table
    from harness.records.named_tasks import NAME, suite_of
    from tasks.registry import load_suite

    wanted = None if suite == NAME else load_suite(suite)
    found = find_runs(folders, left_out)
    is_named = view is not None and bool(view.models)
    shown = found if is_named else without_those_apart(found, suite if wanted is None else wanted.name)
    records = [(run.folder, run.record) for run in shown]
    if wanted is None:
        wanted = suite_of([record for _, record in records] if run is None else [run], left_out)
    table = build_table(wanted, records, published, run, view)
    if found and not (table.rows and is_named) and all(row.source is not None for row in table.rows):
        asked = [run for run in found if view is None or view.wants(run.record.name)]
        left_out(_no_number(wanted, asked or found))
    return table


def _no_number(suite: Suite, runs: Sequence[FoundRun]) -> str:
    """Why a table has no number of any of these runs, and which has some."""
    from harness.records.apart import suites_apart

    suites = sorted({run.record.suite for run in runs})
    said = f"{counted(len(runs), 'run')} of {', '.join(suites)}: no number for the columns of {suite.name}"
    if suite.apart:
        return f"{said}, which has its own runs alone"
    apart = sorted(suites_apart(suites))
    return f"{said}; {' or '.join(f'--suite {name}' for name in apart)} has its own" if apart else said


def draw(table: Table, on: Console) -> None:
    """Draw a table in a terminal."""
    from harness.show.terminal import print_table

    print_table(table, on)
