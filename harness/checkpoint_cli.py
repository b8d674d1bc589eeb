"""The commands about a checkpoint itself: import."""

from __future__ import annotations

import argparse
from pathlib import Path


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


def _import(args: argparse.Namespace) -> None:
    from rich.console import Console

    from harness.imports import import_command

    import_command(args.source, args.folder, args.set, args.tokenizer, Console(highlight=False))
