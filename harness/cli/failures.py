"""`failures`: why a model's answers are wrong, and where one model is right and another is not."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.arguments import whole
from harness.cli.console import console
from harness.cli.recorded import add_results_option, left_out, recorded_runs
from harness.show.formats import FORMATS, format_for
from tasks.verdicts import TITLES, VERDICTS

if TYPE_CHECKING:
    from harness.analysis.failures import Contrast, Failures
    from harness.analysis.judged_runs import JudgedAnswer, JudgedModel

    Pairs = Sequence[tuple[JudgedAnswer, JudgedAnswer]]

FORMS = {name: FORMATS[name].endings for name in ("terminal", "markdown", "json", "csv")}
"""The formats of failures and of lengths, with the endings of their files."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    failures = commands.add_parser("failures", help="why a model's answers are wrong")
    failures.add_argument("run", metavar="RUN", help="a model's name, a run's id or its folder")
    failures.add_argument("other", metavar="RUN2", nargs="?", help="another one: where is one right and the other not?")
    failures.add_argument(
        "--examples", type=whole(0, 1000), default=0, metavar="N", help="show N answers of each verdict but right"
    )
    failures.add_argument(
        "--verdict",
        choices=VERDICTS,
        nargs="+",
        metavar="VERDICT",
        help=f"of these verdicts only: {', '.join(f'{name} ({TITLES[name]})' for name in VERDICTS)}",
    )
    add_results_option(failures)
    failures.add_argument("--format", choices=FORMS, help="default: by the ending of --output, else terminal")
    failures.add_argument("--output", type=Path, help="write to a file, such as failures.md, instead of the terminal")
    failures.set_defaults(command=_failures)


def _failures(args: argparse.Namespace) -> None:
    from basis.files import write_atomically
    from harness.analysis.failures import contrast, examples, failures_of

    form = format_for(args.format, args.output, FORMS)
    models = _models([name for name in (args.run, args.other) if name is not None], args.results)
    failures = [failures_of(model) for model in models]
    found = contrast(*models) if len(models) == 2 else None
    wanted = args.verdict or [verdict for verdict in VERDICTS if verdict != "right"]
    count = args.examples or (3 if args.verdict else 0)
    chosen = examples(models[0].answers, count, wanted) if found is None else []
    sides = () if found is None else (found.won(True, wanted), found.won(False, wanted))
    pairs = [pair for side in sides for pair in side[:count]]
    if args.verdict and not chosen and not pairs:
        print(f"note: no answers to show that are: {', '.join(TITLES[verdict] for verdict in wanted)}", file=sys.stderr)
    if form == "terminal" and args.output is None:
        _draw(failures, found, chosen, pairs)
        return
    text = _written(form, failures, found, chosen, pairs)
    if args.output is None:
        print(text, end="")
    else:
        write_atomically(args.output, text)


def _models(names: Sequence[str], folders: Sequence[Path] | None) -> list[JudgedModel]:
    from harness.analysis.judged_runs import judged_model
    from harness.analysis.selection import select_runs

    runs = recorded_runs(folders)
    return [judged_model(select_runs(name, runs, left_out)) for name in names]


def _draw(failures: Sequence[Failures], found: Contrast | None, chosen: Sequence[JudgedAnswer], pairs: Pairs) -> None:
    from harness.show.failures import print_contrast, print_examples, print_failures, print_pairs

    on = console()
    for each in failures:
        print_failures(each, on)
        on.print()
    if found is not None:
        print_contrast(found, on)
    print_examples(chosen, on)
    print_pairs(pairs, on)


def _written(
    form: str, failures: Sequence[Failures], found: Contrast | None, chosen: Sequence[JudgedAnswer], pairs: Pairs
) -> str:
    if form == "markdown":
        from harness.show.failures_markdown import failures_to_markdown

        return failures_to_markdown(failures, found, chosen, pairs)
    if form == "terminal":
        from harness.show.failures import failures_to_text

        return failures_to_text(failures, found, chosen, pairs)
    from harness.show import failures_data

    if form == "csv":
        return failures_data.failures_to_csv(failures, found)
    return failures_data.failures_to_json(failures, found, chosen or [answer for pair in pairs for answer in pair])
