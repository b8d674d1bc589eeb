"""The terminal that commands print to."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from harness.show.plain import code

if TYPE_CHECKING:
    from rich.console import Console

SPELLED = {
    **dict.fromkeys("−–—─", "-"),
    "…": "..",
    "≥": ">=",
    "≤": "<=",
    "±": "+-",
    "≈": "~",
    "→": "->",
    "←": "<-",
    "⏎": "\\n",
    "·": ".",
    "↓": "v",
    "↑": "^",
    "\u00d7": "x",
    **{digit: f"^{number}" for number, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
}
"""What our tables write, in ASCII; of a number nothing is lost."""


def console(stderr: bool = False) -> Console:
    """A console for results, or for progress and notes on standard error."""
    from rich.console import Console

    class Plain(Console):
        """A console that leaves it to the command line what a closed pipe means."""

        def on_broken_pipe(self) -> None:
            """Say that nobody reads on.

            Raises:
                BrokenPipeError: always.
            """
            raise BrokenPipeError

    return Plain(stderr=stderr, highlight=False)


class Forgiving:
    """Standard error that may be closed or full: what cannot be written is lost, and nothing ends by it.

    Args:
        stream: what is written to; None where the process was started without one.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream: TextIO = stream or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (for good)

    def write(self, text: str) -> int:
        """Write if that is possible."""
        with self._forgiving():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if that is possible."""
        with self._forgiving():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            drop(self._stream)


def spell_out(stream: TextIO | None) -> None:
    """Let a stream write what its encoding lacks in letters that it has: a terminal need not know Unicode."""
    if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
        codecs.register_error("spelled", _spelled)
        stream.reconfigure(errors="spelled")


def _spelled(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(SPELLED.get(one, code(one)) for one in letters), error.end


def drop(stream: TextIO | None) -> None:
    """Let what is still to be written go nowhere: the end of the process would fail on it again."""
    if stream is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
