"""`run_eval.py tasks`: list, show, new, check.

Parses and calls; heavy packages are imported by the command that needs them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.cli.arguments import whole
from harness.cli.console import console
from harness.errors import UserError
from tasks.limits import LARGEST_SEED, MAX_LENGTH, MOST_SAMPLES, MOST_SHOTS
from tasks.ruler.generators import GENERATORS
from tasks.text.tokenizers import CONTEXT_PREFIXES

PREFIX_HELP = f"before the prompt: {', '.join(CONTEXT_PREFIXES)} (default: tokenizer)"


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its actions."""
    tasks = commands.add_parser("tasks", help="what can be run, and what a sample looks like")
    actions = tasks.add_subparsers(required=True, metavar="list | show | new | check")
    listing = actions.add_parser("list", help="tasks and suites, and whether their data are staged")
    listing.add_argument("words", nargs="*", help="only those whose name, family, suite or description holds each word")
    listing.set_defaults(command=_list)
    show = actions.add_parser("show", help="one sample with its token counts")
    show.add_argument("name", help="such as niah_single_1@1024, or the YAML file of a task")
    show.add_argument("--tokenizer", default="gdn2-tiny", help="folder of a tokenizer, or a name of the zoo")
    show.add_argument("--index", type=whole(0, MOST_SAMPLES - 1), default=0, help="which sample, from 0")
    show.add_argument("--seed", type=whole(-LARGEST_SEED, LARGEST_SEED), help="of the documents (default: the task's)")
    show.add_argument("--generator", choices=GENERATORS, help="of RULER's tasks (default: exact)")
    show.add_argument(
        "--shots", type=whole(0, MOST_SHOTS), help="solved examples before the question, where the task takes any"
    )
    show.add_argument(
        "--context-prefix", default="tokenizer", choices=CONTEXT_PREFIXES, metavar="PREFIX", help=PREFIX_HELP
    )
    show.add_argument("--full", action="store_true", help="the whole prompt, not its beginning and end")
    show.set_defaults(command=_show)
    new = actions.add_parser("new", help="write the YAML file of a new retrieval task, to be changed")
    new.add_argument("name", help="letters, digits and _")
    new.add_argument("--folder", type=Path, default=Path(), help="where to write NAME.yaml (default: here)")
    new.set_defaults(command=_new)
    check = actions.add_parser("check", help="what is wrong with a task's YAML file, or a sample of it")
    check.add_argument("file", type=Path)
    check.add_argument("--tokenizer", default="gdn2-tiny", help="folder of a tokenizer, or a name of the zoo")
    check.add_argument(
        "--samples", type=whole(1, MOST_SAMPLES), default=3, help="samples to make at each length (default: 3)"
    )
    check.add_argument("--length", type=whole(1, MAX_LENGTH), help="check this length instead of the file's")
    check.add_argument(
        "--context-prefix", default="tokenizer", choices=CONTEXT_PREFIXES, metavar="PREFIX", help=PREFIX_HELP
    )
    check.add_argument("--full", action="store_true", help="the whole prompt, not its beginning and end")
    check.set_defaults(command=_check)


def _list(args: argparse.Namespace) -> None:
    from harness.show.tasks import print_tasks

    print_tasks(console(), args.words)


def _show(args: argparse.Namespace) -> None:
    from harness.checkpoints.find import find_tokenizer
    from harness.show.tasks import print_sample
    from tasks.preview import show_sample
    from tasks.registry import resolve, spellings

    name = spellings(args.name)[0]
    resolve(name, seed=args.seed, generator=args.generator, shots=args.shots)  # refused before anything heavy
    tokenizer = find_tokenizer(args.tokenizer)
    import gdn2  # noqa: F401 (transformers then knows the config beside the tokenizer)

    sample = show_sample(
        name,
        tokenizer,
        args.index,
        seed=args.seed,
        context_prefix=args.context_prefix,
        generator=args.generator,
        shots=args.shots,
    )
    print_sample(name, sample, console(), full=args.full)


def _new(args: argparse.Namespace) -> None:
    from harness.show.task_check import print_new
    from tasks.starter import write_starter

    print_new(write_starter(args.name, args.folder), console())


def _check(args: argparse.Namespace) -> None:
    import gdn2  # noqa: F401 (transformers then knows the config beside the tokenizer)
    from harness.checkpoints.find import find_tokenizer
    from harness.show.task_check import print_report
    from tasks.check import check_file

    tokenizer = find_tokenizer(args.tokenizer)
    report = check_file(
        args.file, tokenizer, samples=args.samples, length=args.length, context_prefix=args.context_prefix
    )
    print_report(report, console(), args.tokenizer, full=args.full)
    for line in report.errors:
        print(line, file=sys.stderr)
    if count := len(report.errors):
        raise UserError(f"{args.file}: {count} {'mistake' if count == 1 else 'mistakes'}, listed above")
