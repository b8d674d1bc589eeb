"""`run_eval.py results`: list, show, add, export, remove.

Parses and calls; heavy packages are imported by the command that needs them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.console import console
from harness.cli.recorded import RUNS, add_results_option, left_out, recorded_runs, result_folders
from harness.errors import UserError
from harness.paths import LEADERBOARD
from harness.words import counted

if TYPE_CHECKING:
    from harness.analysis.selection import FoundRun

TERMINAL = "terminal"


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its actions."""
    results = commands.add_parser("results", help="the runs that there are: list, show, add, export, remove")
    actions = results.add_subparsers(required=True, metavar="list | show | add | export | remove")
    listing = actions.add_parser("list", help="every run in a line")
    listing.add_argument("--format", choices=(TERMINAL, "markdown", "csv", "json"), default=TERMINAL)
    _add_filters(listing)
    listing.set_defaults(command=_list)
    show = actions.add_parser("show", help="all of a run on one screen")
    show.add_argument("run", metavar="RUN", help="its folder, id or the end of that, or a model (its newest run)")
    add_results_option(show)
    show.set_defaults(command=_show)
    add = actions.add_parser("add", help="make a run of lm-eval's own results, of any model")
    add.add_argument("file", type=Path, metavar="FILE", help="results_*.json, with its samples_*.jsonl beside it")
    add.add_argument("--name", help="the model's in tables (default: the last part of its path)")
    add.add_argument("--output", type=Path, default=RUNS, help="the folder of runs (default: results/runs)")
    add_results_option(add)
    add.set_defaults(command=_add)
    export = actions.add_parser("export", help="one flat table of runs, for pandas: CSV or Parquet")
    export.add_argument("runs", nargs="*", metavar="RUN", help="runs, models or patterns (default: all)")
    export.add_argument("--rows", choices=("samples", "cells"), default="cells", help="what a row is (default: cells)")
    export.add_argument("--output", type=Path, required=True, help="a file ending in .csv or .parquet")
    _add_filters(export)
    export.set_defaults(command=_export)
    remove = actions.add_parser("remove", help="remove runs, after asking")
    remove.add_argument("runs", nargs="+", metavar="RUN", help="runs, models or patterns")
    remove.add_argument("--yes", action="store_true", help="do not ask")
    add_results_option(remove)
    remove.set_defaults(command=_remove)


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", help="only these: names or patterns with commas, such as 'gdn2-*,kda'")
    parser.add_argument("--suite", help="only runs of this suite")
    add_results_option(parser)


def _list(args: argparse.Namespace) -> None:
    from harness.analysis.listing import line_of
    from harness.show.results import FORMATS, print_runs

    lines = [line_of(run) for run in _filtered(args, recorded_runs(args.results))]
    if args.format == TERMINAL:
        print_runs(lines, console())
    else:
        print(FORMATS[args.format](lines), end="")


def _show(args: argparse.Namespace) -> None:
    from harness.analysis.selection import select_runs
    from harness.show.plain import plain
    from harness.show.run_record import print_run

    *others, run = select_runs(args.run, recorded_runs(args.results), left_out)
    print_run(run, console())
    if others:
        older = ", ".join(other.record.run_id for other in reversed(others))
        print(plain(f"the newest of {len(others) + 1} runs; also {older}"), file=sys.stderr)


def _add(args: argparse.Namespace) -> None:
    from harness.analysis.listing import line_of
    from harness.analysis.selection import FoundRun
    from harness.records.lm_eval_records import add_results
    from harness.show.plain import plain
    from harness.show.results import print_runs

    if args.name is not None and ("/" in args.name or args.name.startswith(".") or len(args.name.encode()) > 150):
        raise UserError(f"--name {args.name!r}: is a folder's name: without /, no dot in front, at most 150 bytes")
    done = add_results(args.file, args.output, args.name, result_folders(args.results))
    print_runs([line_of(FoundRun(done.folder, done.record))], console())
    assert done.record.added is not None
    if lacking := done.record.added.without_samples:
        print(
            plain(
                f"note: no samples of {', '.join(lacking)} beside the file: these cells cannot be compared sample by "
                "sample (lm-eval writes them with --log_samples)"
            ),
            file=sys.stderr,
        )
    print(f"results: {plain(str(done.folder))}")


def _export(args: argparse.Namespace) -> None:
    from harness.analysis.listing import has_samples
    from harness.analysis.selection import select_runs
    from harness.analysis.tidy import check_ending, export
    from harness.show.plain import plain

    check_ending(args.output)
    found = recorded_runs(args.results)
    named = {run.folder: run for name in args.runs for run in select_runs(name, found, left_out)}
    runs = _filtered(args, list(named.values()) if args.runs else found)
    if args.rows == "samples" and not args.runs:
        for run in runs:
            if not has_samples(run.folder):
                print(plain(f"left out: {run.folder}: no samples beside the record"), file=sys.stderr)
        runs = [run for run in runs if has_samples(run.folder)]
    if not runs:
        raise UserError("no run to export; `results list` shows what there is")
    count = export(runs, args.rows, args.output)
    print(plain(f"{args.output}: {counted(count, 'row')} of {counted(len(runs), 'run')}"), file=sys.stderr)


def _remove(args: argparse.Namespace) -> None:
    from harness.analysis.listing import line_of
    from harness.analysis.removing import chosen_for_removal, remove_run, unnamed
    from harness.show.plain import plain
    from harness.show.results import print_runs

    folders = result_folders(args.results)
    runs = chosen_for_removal(args.runs, recorded_runs(args.results), folders)
    shipped = [run for run in runs if run.folder.resolve().is_relative_to(LEADERBOARD.resolve())]
    if shipped and (not args.yes or unnamed(shipped, args.runs)):
        ids = " ".join(run.record.run_id for run in shipped)
        raise UserError(f"shipped with this project: {ids}; to remove it all the same, name each by its id, with --yes")
    print_runs([line_of(run) for run in runs], console())
    if not args.yes and not _agreed(len(runs)):
        print("nothing is removed", file=sys.stderr)
        return
    for run in runs:
        others = remove_run(run)
        kept = f"; {', '.join(file.name for file in others)} in it are not of the run and stay" if others else ""
        print(plain(f"removed: {run.folder}{kept}"), file=sys.stderr)


def _agreed(count: int) -> bool:
    """Ask on the terminal.

    Raises:
        UserError: there is none.
    """
    if not sys.stdin.isatty():
        raise UserError("nobody can be asked here; say --yes to remove them")
    print(f"remove {'this run' if count == 1 else f'these {count:,} runs'} for good? [y/N] ", end="", file=sys.stderr)
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _filtered(args: argparse.Namespace, runs: Sequence[FoundRun]) -> list[FoundRun]:
    from harness.analysis.listing import matching

    models = [name.strip() for name in args.models.split(",") if name.strip()] if args.models else []
    return matching(runs, models, args.suite)
