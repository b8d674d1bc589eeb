"""Command lines whose mistakes are one line like all others, with the name that was meant where one looks like it."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from basis.errors import UserError
from basis.names import or_near

if TYPE_CHECKING:
    from _typeshed import SupportsWrite


@contextlib.contextmanager
def mistakes_end() -> Iterator[None]:
    """End the process with exit code 2 where the user made a mistake, which is said in one line."""
    try:
        yield
    except UserError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)


class Parser(argparse.ArgumentParser):
    """argparse's parser, whose mistakes are a UserError."""

    def error(self, message: str) -> NoReturn:
        """Refuse what was typed.

        Raises:
            UserError: always.
        """
        mark = "" if message.endswith("?") else ";"
        raise UserError(f"{message}{mark} `{self.prog} --help` says what it takes")

    def parse_known_args(  # type: ignore[override]  # argparse's own has overloads for namespaces of other types
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments, and refuse a flag that looks like one of this parser's, with its name."""
        found, rest = super().parse_known_args(args, namespace)
        for argument in rest:
            typed = argument.partition("=")[0]
            if typed.startswith("--") and (near := or_near(typed, self._option_string_actions)):
                self.error(f"unrecognized argument {typed}{near}")
        return found, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """See that a value is one of the choices; where it is not, the nearest is said."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += or_near(value, action.choices or ())
            raise

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Write what argparse has to say; what cannot be written is not passed over, as argparse does."""
        if message:
            (file or sys.stderr).write(message)
