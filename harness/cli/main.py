"""The command line: parses, calls, and turns what a user can mend into one line.

Heavy packages are imported by the command that needs them, never here.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TextIO, cast

from basis.arguments import Parser
from basis.errors import reason, shown
from basis.program import as_called, program
from basis.signals import ends_by_interrupt
from basis.version import VERSION
from harness.cli import (
    checkpoints,
    compare,
    failures,
    leaderboard,
    lengths,
    plot,
    report,
    reproduce,
    results,
    run,
    staging,
    study,
    tasks,
)
from harness.cli.arguments import check_texts
from harness.cli.console import Forgiving, drop, spell_out
from harness.cli.examples import add_examples
from harness.errors import UserError
from harness.show.plain import plain

DEBUG_VARIABLE = "GDN2_DEBUG"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""What a disk says that takes no more."""
UNREACHABLE = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM)
"""What it says where even whether there is such a file cannot be asked."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: what was typed behind the program's name; by default the process's own arguments.

    Returns:
        The exit code: 0, 1 for a check that fails, 2 for a mistake that the user can mend, 130 when interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        spell_out(stream)
    usual = sys.stderr
    sys.stderr = cast("TextIO", Forgiving(usual))
    try:
        return _answered(arguments)
    finally:
        sys.stderr.flush()
        sys.stderr = usual


def _answered(arguments: Sequence[str]) -> int:
    """Run a command; whatever goes wrong is said and becomes an exit code."""
    try:
        try:
            check_texts(arguments)
            args = _parser().parse_args(arguments)
            args.typed = tuple(arguments)
            command: Callable[[argparse.Namespace], int | None] = args.command
            with ends_by_interrupt():
                code = command(args) or 0
        finally:  # --help and --version end by an exception
            if sys.stdout is not None:  # closed by the caller
                sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        _complain("interrupted; what is finished is kept, the same command goes on from there")
        return 130
    except BrokenPipeError:  # `... | head` has seen enough
        drop(sys.stdout)
        return 0
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                return _refused(error)
            drop(sys.stdout)
            return _refused(error)
        if isinstance(error, OSError) and error.errno in UNREACHABLE and error.filename:
            _complain(f"error: {shown(str(error.filename))}: cannot be used ({reason(error)}); choose another name")
            return 2
        mendable = isinstance(error, UserError)
        if os.environ.get(DEBUG_VARIABLE) or not mendable:
            traceback.print_exc()
            return 2 if mendable else 1
        _complain("error: " + " ".join(str(error).split()))
        return 2


def _refused(error: OSError) -> int:
    """A disk that takes no more."""
    _complain(f"error: {error.filename or 'the output'}: cannot be written ({reason(error)})")
    return 2


def _complain(line: str) -> None:
    print(plain(as_called(line)), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=program(), description="Evaluate checkpoints of recurrent language models.")
    parser.add_argument("--version", action="version", version=f"gdn2 {VERSION}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for group in (
        staging,
        run,
        leaderboard,
        compare,
        failures,
        lengths,
        plot,
        report,
        reproduce,
        results,
        study,
        tasks,
        checkpoints,
    ):
        group.add_commands(commands)
    add_examples(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
