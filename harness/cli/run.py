"""`run` and `plan`: one set of options, run or counted."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.console import console
from harness.cli.results import RUNS, existing, print_leaderboard
from harness.paths import LEADERBOARD, require
from tasks.ruler.generators import GENERATORS

if TYPE_CHECKING:
    from harness.run.options import RunOptions


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
    plan.add_argument("--tokens-per-second", type=float, help="for the time (default: of the newest run, if any)")
    plan.set_defaults(command=_plan)


def _add_run_options(run: argparse.ArgumentParser) -> None:
    run.add_argument("checkpoint", help="a folder (a foreign one is imported), a .pth, or a name of the zoo")
    what = run.add_mutually_exclusive_group()
    what.add_argument("--suite", default="quick", help="a suite by name, or a YAML file (default: quick)")
    what.add_argument(
        "--tasks",
        help="instead of a suite: names with commas, such as niah_single_1@1024,squad_retrieval, or YAML files",
    )
    run.add_argument("--samples", type=int, help="documents a task (default: as the suite says)")
    run.add_argument("--seed", type=int, help="of the documents (default: as the suite says)")
    run.add_argument(
        "--generator", choices=GENERATORS, help="of RULER's tasks (default: as the suite says, else exact)"
    )
    run.add_argument("--shots", type=int, help="solved examples before a question, where a task takes any (default: 0)")
    run.add_argument("--batch-size", type=int, help="the most rows read together (default: what memory holds)")
    run.add_argument("--batch-tokens", type=int, help="the most tokens a step (default: from the free memory)")
    run.add_argument("--workers", type=int, default=0, help="processes with a copy of the model each, by Ray")
    run.add_argument(
        "--stop-at-references",
        action="store_true",
        help="end a needle's generation when every reference has appeared: the same scores, sooner; recorded",
    )
    run.add_argument("--prefix-states", type=Path, help="a folder that keeps states of long shared prefixes")
    run.add_argument("--device", default="auto", help="auto (default: a GPU if there is one), cpu, cuda, cuda:1, ...")
    run.add_argument("--dtype", default="float32", help="float32 (default), bfloat16 or float16; states stay float32")
    run.add_argument("--context-prefix", help="before every context: tokenizer, none, bos, eos, or lm-eval")
    run.add_argument("--max-length", type=int, help="cut longer contexts (default: as long as a task asks for)")
    run.add_argument("--tokenizer", help="folder of the tokenizer, if it is not the checkpoint's")
    run.add_argument("--output", type=Path, default=RUNS, help="where results go (default: results/runs)")
    run.add_argument("--name", help="the model's name in tables (default: the folder's)")


def _run(args: argparse.Namespace) -> None:
    from harness.engine.threads import choose_threads
    from harness.run.runner import run
    from harness.show.summary import print_summary

    options = _run_options(args)
    if note := choose_threads():
        console(stderr=True).print(note, highlight=False, soft_wrap=True)
    record, folder = run(options, console(stderr=True))
    out = console()
    print_summary(record, folder, out)
    if not options.tasks:
        print_leaderboard(args.suite, existing((require(LEADERBOARD), RUNS, options.output)), out)


def _plan(args: argparse.Namespace) -> None:
    from harness.run.planning import plan_run

    folders = existing((require(LEADERBOARD), RUNS, args.output))
    plan_run(_run_options(args), args.tokens_per_second, folders, console())


def _run_options(args: argparse.Namespace) -> RunOptions:
    from harness.run.options import RunOptions

    return RunOptions(
        checkpoint=args.checkpoint,
        suite=args.suite,
        tasks=tuple(name.strip() for name in args.tasks.split(",") if name.strip()) if args.tasks else (),
        samples=args.samples,
        seed=args.seed,
        batch_size=args.batch_size,
        batch_tokens=args.batch_tokens,
        workers=args.workers,
        stop_at_references=args.stop_at_references,
        prefix_states=args.prefix_states,
        device=args.device,
        dtype=args.dtype,
        context_prefix=args.context_prefix,
        max_length=args.max_length,
        tokenizer=args.tokenizer,
        output=args.output,
        name=args.name,
        generator=args.generator,
        shots=args.shots,
        command=_without_output(args.typed),
    )


def _without_output(typed: Sequence[str]) -> tuple[str, ...]:
    """The arguments without --output and its value."""
    kept, skip = [], False
    for argument in typed:
        if not skip and not argument.startswith("--output"):
            kept.append(argument)
        skip = not skip and argument == "--output"
    return tuple(kept)
