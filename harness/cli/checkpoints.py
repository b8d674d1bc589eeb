"""The commands about a checkpoint itself: import, inspect, check."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.arguments import positive, whole
from harness.cli.console import console
from harness.errors import UserError
from harness.runs.options import DTYPES, check_device
from tasks.limits import MAX_LENGTH
from tasks.text.tokenizers import CONTEXT_PREFIXES

NOT_REPRODUCED = 1  # the exit code of `check`


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add them to the command line."""
    imports = commands.add_parser("import", help="turn a foreign checkpoint into one of this project")
    imports.add_argument(
        "source", help="a .pth of the GDN-2 training code, or a folder of flash-linear-attention or transformers"
    )
    imports.add_argument("folder", type=Path, help="the new folder; it must not exist")
    imports.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="what the source does not tell, such as output_gate=silu",
    )
    imports.add_argument("--tokenizer", type=Path, help="folder of the tokenizer (default: beside the source)")
    imports.set_defaults(command=_import)
    inspect = commands.add_parser("inspect", help="what a checkpoint is: layers, parameters, state, tokenizer, hash")
    inspect.add_argument("checkpoint", help="a folder, a file with weights, or a name of the zoo")
    inspect.add_argument("--tokenizer", type=Path, help="folder of the tokenizer, if it is not the checkpoint's")
    inspect.add_argument("--json", action="store_true", help="as JSON")
    inspect.set_defaults(command=_inspect)
    _add_check(commands)


def _add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = commands.add_parser("check", help="does a checkpoint reproduce the loss that its training reported?")
    check.add_argument("checkpoint", help="a folder, a file with weights, or a name of the zoo")
    check.add_argument("--text", type=Path, required=True, help="validation text; or .jsonl with a 'text' a line")
    check.add_argument("--expect-loss", type=positive, required=True, help="nats a token, as training reported it")
    check.add_argument("--tolerance", type=positive, default=0.01, help="nats that it may be off (default: 0.01)")
    check.add_argument(
        "--length", type=whole(1, MAX_LENGTH), help="tokens of a window (default: the training length in config.json)"
    )
    check.add_argument("--num-tokens", type=whole(1), help="predict only that many, from the beginning (default: all)")
    check.add_argument(
        "--context-prefix",
        default="tokenizer",
        choices=CONTEXT_PREFIXES,
        help="before each document: tokenizer (default), none, bos or eos",
    )
    check.add_argument("--batch-size", type=whole(1), default=1, help="windows read together")
    check.add_argument("--device", default="auto", help="auto (default: a GPU if there is one), cpu, cuda, ...")
    check.add_argument(
        "--dtype",
        default="auto",
        choices=DTYPES,
        help="auto (default: float32 on a CPU, as saved on a GPU), float32, bfloat16, float16 or float64",
    )
    check.add_argument("--tokenizer", help="folder of the tokenizer, if it is not the checkpoint's")
    check.add_argument("--no-hints", action="store_true", help="do not look for the mistake when the loss is off")
    check.add_argument("--json", action="store_true", help="as JSON")
    check.set_defaults(command=_check)


def _import(args: argparse.Namespace) -> None:
    from harness.checkpoints.imports import import_source
    from harness.show.imports import print_import
    from harness.show.progress import spinner

    out = console()
    _say_which_was_taken(args.source)
    found = import_source(args.source, args.folder, args.set, args.tokenizer, status=spinner(out))
    print_import(found, out)


def _inspect(args: argparse.Namespace) -> None:
    import json

    from harness.checkpoints.inspection import inspect
    from harness.show.inspection import print_inspection
    from harness.show.progress import spinner

    _say_which_was_taken(args.checkpoint)
    with spinner(console(stderr=True))(f"reading {args.checkpoint}"):
        found = inspect(args.checkpoint, args.tokenizer)
    if args.json:
        print(json.dumps(found.as_dict(), indent=2))
    else:
        print_inspection(found, console())


def _check(args: argparse.Namespace) -> int:
    from harness.checkpoints.find import find_checkpoint

    check_device(args.device)
    find_checkpoint(args.checkpoint)
    if not args.text.exists():
        raise UserError(f"--text {args.text}: no such file")
    from harness.checkpoints.reproduction import CheckOptions, check
    from harness.show.progress import spinner

    options = CheckOptions(
        checkpoint=args.checkpoint,
        text=args.text,
        expect_loss=args.expect_loss,
        tolerance=args.tolerance,
        length=args.length,
        num_tokens=args.num_tokens,
        context_prefix=args.context_prefix,
        batch_size=args.batch_size,
        device=args.device,
        dtype=args.dtype,
        tokenizer=args.tokenizer,
        hints=not args.no_hints,
    )
    _say_which_was_taken(args.checkpoint)
    result = check(options, spinner(console(stderr=True)))
    if args.json:
        print(result.to_json())
    else:
        from harness.show.reproduction import print_check

        print_check(result, console())
    return 0 if result.reproduces else NOT_REPRODUCED


def _say_which_was_taken(name: str) -> None:
    """A note where a name could mean two checkpoints."""
    from harness.checkpoints.find import which_was_taken

    if note := which_was_taken(name):
        console(stderr=True).print(note, markup=False, soft_wrap=True)
