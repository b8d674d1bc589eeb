"""Train a checkpoint by a recipe: `python -m gdn2.train RECIPE.yaml [--device D] [--out FOLDER] [--work FOLDER]`."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from pathlib import Path

from basis.arguments import Parser
from basis.children import end_with
from basis.errors import UserError, reason
from basis.signals import ends_by_interrupt

PROGRAM = "python -m gdn2.train"


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments; by default the process's, which then keeps the memory that it frees.

    Returns:
        The exit code: 0; 2 for a mistake that the user can mend; 130 when interrupted.
    """
    for stream in (sys.stdout, sys.stderr):  # names of files need not be UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _train(_parser().parse_args(argv), is_alone=argv is None)
    except UserError as error:
        _complain("error: " + " ".join(str(error).split()))
        return 2
    finally:
        _say("")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=PROGRAM, description=__doc__)
    parser.add_argument("recipe", type=_path, help="a recipe, such as gdn2/zoo/gdn2-tiny/recipe.yaml")
    parser.add_argument(
        "--out",
        type=_path,
        help="a new folder for the checkpoint (default: runs/<name>/checkpoint); nothing is overwritten",
    )
    parser.add_argument(
        "--device",
        help="auto, cpu, cuda or cuda:N, instead of the recipe's; several GPUs: torchrun -m gdn2.train RECIPE",
    )
    parser.add_argument("--work", type=_path, help="folder of what a later run needs to go on (default: runs/<name>)")
    ahead = parser.add_mutually_exclusive_group()
    ahead.add_argument("--prepare", type=_path, metavar="FOLDER", help="write tokenizer and tokens there; no training")
    ahead.add_argument(
        "--prepared", type=_path, metavar="FOLDER", help="take them from there; of texts only data.heldout is needed"
    )
    return parser


def _path(text: str) -> Path:
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError("a file or folder needs a name")
    return Path(text)


def _train(args: argparse.Namespace, *, is_alone: bool) -> int:
    work: Path | None = args.work
    try:
        from gdn2.train.recipe import load_recipe

        recipe = load_recipe(args.recipe)
        work = work or Path("runs") / recipe.name
        out = args.out or Path("runs") / recipe.name / "checkpoint"
        if args.prepare is not None:
            from gdn2.train.prepared import prepare_into

            corpus = prepare_into(recipe, args.prepare)
            _say(f"{corpus.documents:,} paragraphs, {len(corpus.stream):,} tokens written to {args.prepare}")
            return 0
        from gdn2.train.heap import keep_freed_memory
        from gdn2.train.place import joined
        from gdn2.train.run import run

        if is_alone and "TORCHELASTIC_RUN_ID" in os.environ:
            end_with(os.getppid())  # torchrun, which else could be killed and leave this to itself
        with joined(recipe, args.device) as place:
            if is_alone and not place.is_gpu:
                keep_freed_memory()
            # Of several processes, one that waits for the others would hear of it when they have come.
            with ends_by_interrupt() if place.processes == 1 else contextlib.nullcontext():
                run(recipe, out, work, _say, place, args.prepared)
    except UserError as error:
        _complain("error: " + " ".join(str(error).split()))
        return 2
    except KeyboardInterrupt:
        saved = work is not None and (work / "state.pt").is_file()
        _complain(
            f"interrupted; the same command goes on from the last save in {work}"
            if saved
            else "interrupted; nothing was saved yet, the same command begins anew"
        )
        return 130
    return 0


def _complain(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def _say(line: str) -> None:
    """Print a line, or nothing but what waits to be printed.

    A reader that has gone away or a full disk does not end a training of hours: it goes on in silence.
    """
    try:
        print(line, end="\n" if line else "", flush=True)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            _complain(f"standard output cannot be written ({reason(error)}); what it would have said is lost")
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
