"""`report`: one HTML file with everything that records and samples say."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.arguments import whole
from harness.cli.recorded import add_results_option, left_out, recorded_runs


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    report = commands.add_parser("report", help="one HTML file: leaderboard, pictures, samples, protocol")
    report.add_argument("names", nargs="*", metavar="RUN|MODEL", help="runs, models or patterns (default: all)")
    report.add_argument("--suite", default="ruler_table3", help="as for leaderboard")
    add_results_option(report)
    report.add_argument("--output", type=Path, default=Path("report.html"), help="the file (default: report.html)")
    report.add_argument(
        "--most-models", type=whole(1, 12), default=12, help="models shown in detail, at most 12 (default: 12)"
    )
    report.add_argument(
        "--most-answers", type=whole(0, 200_000), default=20_000, help="answers to browse (default: 20000)"
    )
    report.set_defaults(command=_report)


def _report(args: argparse.Namespace) -> None:
    from basis.files import write_atomically
    from harness.analysis.report import Bounds, make_report
    from harness.records.named_tasks import NAME, suite_of
    from harness.words import counted
    from tasks.registry import load_suite

    suite = None if args.suite == NAME else load_suite(args.suite)
    runs = recorded_runs(args.results)
    if suite is None:
        suite = suite_of([run.record for run in runs], left_out)
    from harness.show.report.page import to_html

    report = make_report(
        suite,
        runs,
        args.names,
        Bounds(args.most_models, args.most_answers),
        command=args.typed,
        on_problem=left_out,
    )
    text = to_html(report)
    write_atomically(args.output, text)
    size = len(text.encode()) / 1e6
    models, samples = counted(len(report.entrants), "model"), counted(len(report.asked.questions), "sample")
    print(f"{args.output}: {models}, {samples}, {size:.1f} MB")
