"""`lengths`: up to which length models answer."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.arguments import positive
from harness.cli.console import console
from harness.cli.failures import FORMS
from harness.cli.recorded import add_results_option, left_out, recorded_runs
from harness.errors import UserError
from harness.show.formats import format_for


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    lengths = commands.add_parser("lengths", help="up to which length models answer")
    lengths.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="models, runs, folders, patterns (default: every model; those of a suite that stands apart by --suite)",
    )
    lengths.add_argument("--tasks", help="only these, separated by commas: niah_single_1, 'niah_*'")
    lengths.add_argument("--suite", help="columns of this suite or YAML file (default: of every suite of the runs)")
    lengths.add_argument(
        "--threshold", type=positive, default=85.6, metavar="PERCENT", help="to be exceeded (default: 85.6, RULER's)"
    )
    lengths.add_argument("--published", action="append", metavar="ROW", help="a paper's row, or a pattern; repeatable")
    add_results_option(lengths)
    lengths.add_argument("--format", choices=FORMS, help="default: by the ending of --output, else terminal")
    lengths.add_argument("--output", type=Path, help="write to a file, such as lengths.md, instead of the terminal")
    lengths.set_defaults(command=_lengths)


def _lengths(args: argparse.Namespace) -> None:
    from basis.files import write_atomically
    from harness.analysis.lengths import lengths_of
    from harness.analysis.shown import models_of, spots_of
    from harness.show import lengths as shown

    form = format_for(args.format, args.output, FORMS)
    if args.threshold >= 100:
        raise UserError(f"--threshold {args.threshold:g}: must be below 100, nothing exceeds it")
    runs = recorded_runs(args.results)
    models = models_of(args.names, runs, left_out, args.suite)
    tasks = [part.strip() for part in (args.tasks or "").split(",") if part.strip()]
    spots = spots_of(models, args.suite, tasks, left_out)
    reaches = lengths_of(models, spots, args.published or (), args.threshold / 100)
    if form == "terminal" and args.output is None:
        shown.print_lengths(reaches, console())
        return
    written = {
        "terminal": shown.lengths_to_text,
        "markdown": shown.lengths_to_markdown,
        "json": shown.lengths_to_json,
        "csv": shown.lengths_to_csv,
    }
    text = written[form](reaches)
    if args.output is None:
        print(text, end="")
    else:
        write_atomically(args.output, text)
