"""`compare`: models with one another, sample by sample."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.console import console
from harness.cli.recorded import add_results_option, left_out, recorded_runs
from harness.show.comparison_formats import COMPARISON_FORMATS, comparison_format_for
from harness.show.formats import DEFAULT

if TYPE_CHECKING:
    from harness.analysis.sides import Side


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    compare = commands.add_parser("compare", help="say which of several models is better, sample by sample")
    compare.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help="a run's folder or id, a model's name, a pattern such as 'kda-*', or a row of a paper: paper:FILE/ROW",
    )
    compare.add_argument("--suite", help="whose columns are compared (default: of the suites that were run)")
    compare.add_argument(
        "--seeds",
        action="store_true",
        help="each name is one training: the models that it finds are its seeds, and the test is over them (so it is "
        "by itself where records say that a pattern's models are seeds of one recipe)",
    )
    compare.add_argument("--anyway", action="store_true", help="compare numbers of different protocols too, marked")
    compare.add_argument("--details", action="store_true", help="every pair task by task, also of more than 3 models")
    add_results_option(compare)
    compare.add_argument(
        "--format", choices=COMPARISON_FORMATS, help="default: by the ending of --output, else terminal"
    )
    compare.add_argument("--output", type=Path, help="write to a file, such as comparison.md, instead of the terminal")
    compare.set_defaults(command=_compare)


def _compare(args: argparse.Namespace) -> None:
    from basis.files import write_atomically

    name = comparison_format_for(args.format, args.output)
    from harness.analysis.compare import compare_sides
    from tasks.registry import load_suite

    suite = None if args.suite is None else load_suite(args.suite)
    sides = _sides(args)
    comparison = compare_sides(sides, suite, args.anyway)
    if args.output is not None:
        write_atomically(args.output, COMPARISON_FORMATS[name].write(comparison))
    elif name == DEFAULT:
        from harness.show.comparison import print_comparison

        print_comparison(comparison, console(), args.details)
    else:
        print(COMPARISON_FORMATS[name].write(comparison), end="")


def _sides(args: argparse.Namespace) -> list[Side]:
    """What the names mean, in their order; records that cannot be read are named on standard error."""
    from harness.analysis.papers import PREFIX, paper_side
    from harness.analysis.selection import select_runs
    from harness.analysis.sides import are_seeds, sides_of_runs, training

    runs = recorded_runs(args.results)
    sides: list[Side] = []
    for name in args.names:
        if name.startswith(PREFIX):
            sides.append(paper_side(name))
            continue
        found = sides_of_runs(select_runs(name, runs, left_out))
        sides += [training(name, found, args.anyway)] if args.seeds or are_seeds(found) else found
    return sides
