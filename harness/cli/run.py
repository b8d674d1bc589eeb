"""`run` and `plan`: one set of options, run or counted."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from basis.program import as_called
from harness.cli.arguments import positive
from harness.cli.console import console
from harness.cli.leaderboard import print_leaderboard
from harness.cli.recorded import RUNS, existing
from harness.errors import UserError
from harness.paths import LEADERBOARD, require
from harness.runs.options import RunOptions, check_several, flag
from harness.show.plain import plain

if TYPE_CHECKING:
    from rich.console import Console

    from harness.runs.planning import Estimate
    from harness.runs.runner import RunResult
    from harness.runs.several import Outcome


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both commands to the command line."""
    _add_run(commands)
    _add_plan(commands)


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = commands.add_parser("run", help="evaluate a checkpoint, or several, and print their leaderboard rows")
    _add_run_options(run)
    run.set_defaults(command=_run)


def _add_plan(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    plan = commands.add_parser("plan", help="what a run would ask for: requests, tokens, time, memory; runs nothing")
    _add_run_options(plan)
    plan.add_argument("--tokens-per-second", type=positive, help="for the time (default: of the newest run, if any)")
    plan.set_defaults(command=_plan)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    """A flag for each field of `RunOptions`, made from the field."""
    types = get_type_hints(RunOptions)
    instead = parser.add_mutually_exclusive_group()
    for item in fields(RunOptions):
        if "help" not in item.metadata:
            continue
        where = instead if item.name in ("suite", "tasks") else parser
        about: dict[str, Any] = {"help": item.metadata["help"]}
        if item.name == "checkpoint":
            parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help=f"{about['help']}; or several")
            continue
        if types[item.name] is bool:
            about["action"] = "store_true"
        else:
            about |= {"default": None, "type": _parser_of(types[item.name])}
            about |= {name: item.metadata[name] for name in ("choices", "metavar") if name in item.metadata}
        if item.name == "settings":
            about |= {"action": "append", "type": str}
        where.add_argument(flag(item.name), dest=item.name, **about)


def _parser_of(annotation: Any) -> Callable[[str], Any]:
    """What turns the text of a flag into a value of the option's type; `RunOptions` splits texts into names itself."""
    numbers = [kind for kind in (int, float) if kind in (annotation, *get_args(annotation))]
    return numbers[0] if numbers else str


def _run(args: argparse.Namespace) -> int:
    each = _checked_options(args)
    from harness.engine.threads import choose_threads
    from harness.runs.runner import run_options
    from harness.runs.several import Together, for_each
    from harness.show.progress import RunProgress

    if note := choose_threads():
        console(stderr=True).print(note, soft_wrap=True)
    if len(each) == 1:
        _print_one(each[0], run_options(each[0], RunProgress(console(stderr=True))))
        return 0

    together = Together(each)

    def run_one(options: RunOptions) -> RunResult:
        from harness.show.summary import print_summary

        notes = console(stderr=True)
        _begin(options, each, notes)
        if done := together.find(options):
            notes.print(f"finished before the interruption: {plain(str(done.folder))}", markup=False, soft_wrap=True)
        else:
            done = run_options(options, RunProgress(notes))
            together.keep(options, done)
        print_summary(done.record, done.folder, console())
        return done

    outcomes = for_each(each, run_one)
    _print_several(each[0], [outcome.result for outcome in outcomes if outcome.result is not None])
    code = _complained(outcomes)
    if not code:
        together.clear()
    return code


def _print_one(options: RunOptions, done: RunResult) -> None:
    from harness.records.named_tasks import NAME
    from harness.show.summary import print_summary

    out = console()
    print_summary(done.record, done.folder, out)
    suite = NAME if options.tasks else options.suite
    print_leaderboard(suite, existing((require(LEADERBOARD), RUNS, options.output)), out, done.record)


def _print_several(options: RunOptions, done: Sequence[RunResult]) -> None:
    """The leaderboard of these runs, and their comparison where there are two."""
    from harness.analysis.compare import compare_sides
    from harness.analysis.selection import FoundRun
    from harness.analysis.sides import sides_of_runs
    from harness.records.leaderboard import build_table
    from harness.records.named_tasks import suite_of
    from harness.show.comparison import print_comparison
    from harness.show.terminal import print_table
    from tasks.registry import load_suite

    if not done:
        return
    notes = console(stderr=True)
    records = [result.record for result in done]
    suite = suite_of(records, notes.print) if options.tasks else load_suite(options.suite)
    print_table(build_table(suite, [(result.folder, result.record) for result in done]), console())
    if len(done) > 1:
        sides = sides_of_runs([FoundRun(result.folder, result.record) for result in done])
        try:
            comparison = compare_sides(sides, None if options.tasks else suite)
        except UserError as error:
            notes.print(f"not compared: {plain(str(error))}", markup=False, soft_wrap=True)
            return
        console().print()
        print_comparison(comparison, console())


def _plan(args: argparse.Namespace) -> int:
    each = _checked_options(args)
    from harness.runs.planning import estimate_run
    from harness.runs.several import for_each
    from harness.show.estimate import print_estimate, print_sum
    from harness.show.progress import RunProgress

    folders = existing((require(LEADERBOARD), RUNS, each[0].output))

    def estimate_one(options: RunOptions) -> Estimate:
        found = estimate_run(options, args.tokens_per_second, folders, RunProgress(console(stderr=True)))
        _begin(options, each, console())
        print_estimate(found, console())
        return found

    if len(each) == 1:
        estimate_one(each[0])
        return 0
    outcomes = for_each(each, estimate_one)
    if found := [outcome.result for outcome in outcomes if outcome.result is not None]:
        print_sum(found, console())
    return _complained(outcomes)


def _begin(options: RunOptions, each: Sequence[RunOptions], on: Console) -> None:
    """Say which of several checkpoints comes."""
    if len(each) > 1:
        line = f"checkpoint {each.index(options) + 1} of {len(each)}: {plain(options.checkpoint)}"
        on.print(line, style="bold", markup=False, soft_wrap=True)


def _complained(outcomes: Sequence[Outcome[Any]]) -> int:
    """Name the checkpoints that failed; the exit code says whether any did."""
    failed = [outcome for outcome in outcomes if outcome.problem is not None]
    for outcome in failed:
        if outcome.trace is not None:
            print(outcome.trace, file=sys.stderr)
        line = f"error: {outcome.checkpoint}: {(outcome.problem or '').removeprefix(f'{outcome.checkpoint}: ')}"
        print(plain(as_called(line)), file=sys.stderr)
    if failed:
        left = len(outcomes) - len(failed)
        print(f"{len(failed)} of {len(outcomes)} checkpoints failed; {left} finished", file=sys.stderr)
    return 1 if failed else 0


def _checked_options(args: argparse.Namespace) -> list[RunOptions]:
    """The options of each checkpoint, their names known; what comes behind imports for seconds."""
    from harness.runs.resolve import check_names

    each = [_options(args, checkpoint) for checkpoint in args.checkpoints]
    check_several(each)
    for options in each:
        check_names(options)
    return each


def _options(args: argparse.Namespace, checkpoint: str) -> RunOptions:
    given = {
        item.name: getattr(args, item.name)
        for item in fields(RunOptions)
        if "help" in item.metadata and item.name != "checkpoint"
    }
    typed = {name: value for name, value in given.items() if value is not None}
    others = [other for other in args.checkpoints if other != checkpoint]
    command = _without_others(_without_output(args.typed), others)
    return RunOptions(checkpoint=checkpoint, **typed, command=command)


def _without_others(typed: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """The arguments without the other checkpoints: the command that gives this run alone.

    What follows a flag that takes a value is that value, whatever it is called.
    """
    alone = {flag(name) for name, kind in get_type_hints(RunOptions).items() if kind is bool}
    kept: list[str] = []
    for place, argument in enumerate(typed):
        before = typed[place - 1] if place else ""
        is_value = before.startswith("--") and "=" not in before and before not in alone
        if is_value or argument not in others:
            kept.append(argument)
    return tuple(kept)


def _without_output(typed: Sequence[str]) -> tuple[str, ...]:
    """The arguments without --output and its value."""
    kept, skip = [], False
    for argument in typed:
        if not skip and not argument.startswith("--output"):
            kept.append(argument)
        skip = not skip and argument == "--output"
    return tuple(kept)
