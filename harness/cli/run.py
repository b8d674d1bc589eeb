"""`run` and `plan`: one set of options, run or counted."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from harness.cli.arguments import positive
from harness.cli.console import console
from harness.cli.leaderboard import RUNS, existing, print_leaderboard
from harness.paths import LEADERBOARD, require
from harness.runs.options import RunOptions, flag


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both commands to the command line."""
    _add_run(commands)
    _add_plan(commands)


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = commands.add_parser("run", help="evaluate a checkpoint and print its leaderboard row")
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
            parser.add_argument(item.name, **about)
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


def _run(args: argparse.Namespace) -> None:
    options = _checked_options(args)
    from harness.engine.threads import choose_threads
    from harness.records.named_tasks import NAME
    from harness.runs.runner import run_options
    from harness.show.progress import RunProgress
    from harness.show.summary import print_summary

    if note := choose_threads():
        console(stderr=True).print(note, soft_wrap=True)
    done = run_options(options, RunProgress(console(stderr=True)))
    out = console()
    print_summary(done.record, done.folder, out)
    suite = NAME if options.tasks else options.suite
    print_leaderboard(suite, existing((require(LEADERBOARD), RUNS, options.output)), out, done.record)


def _plan(args: argparse.Namespace) -> None:
    options = _checked_options(args)
    from harness.runs.planning import estimate_run
    from harness.show.estimate import print_estimate
    from harness.show.progress import RunProgress

    folders = existing((require(LEADERBOARD), RUNS, options.output))
    found = estimate_run(options, args.tokens_per_second, folders, RunProgress(console(stderr=True)))
    print_estimate(found, console())


def _checked_options(args: argparse.Namespace) -> RunOptions:
    """The options, their names known; what comes behind imports for seconds."""
    from harness.runs.resolve import check_names

    options = _options(args)
    check_names(options)
    return options


def _options(args: argparse.Namespace) -> RunOptions:
    given = {item.name: getattr(args, item.name) for item in fields(RunOptions) if "help" in item.metadata}
    typed = {name: value for name, value in given.items() if value is not None}
    return RunOptions(**typed, command=_without_output(args.typed))


def _without_output(typed: Sequence[str]) -> tuple[str, ...]:
    """The arguments without --output and its value."""
    kept, skip = [], False
    for argument in typed:
        if not skip and not argument.startswith("--output"):
            kept.append(argument)
        skip = not skip and argument == "--output"
    return tuple(kept)
