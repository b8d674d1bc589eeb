"""The formats in which a leaderboard can be written: a name, the endings of its files, a function. One a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from basis.names import or_near
from harness.errors import UserError
from harness.records.table import Table


class Writer(Protocol):
    """What makes the text of a table."""

    def __call__(self, table: Table, intervals: bool = False) -> str:
        """Make the text.

        Args:
            table: the leaderboard.
            intervals: whether a table of intervals follows, in a format that has none beside its numbers.
        """


@dataclass(frozen=True)
class Format:
    """A format of tables.

    Attributes:
        endings: of files that have it, with their dots.
        write: makes the text of a table.
    """

    endings: tuple[str, ...]
    write: Writer


def _terminal(table: Table, intervals: bool = False) -> str:  # noqa: ARG001
    from harness.show.terminal import to_text

    return to_text(table)


def _markdown(table: Table, intervals: bool = False) -> str:
    from harness.show.markdown import to_markdown

    return to_markdown(table, intervals)


def _latex(table: Table, intervals: bool = False) -> str:
    from harness.show.latex import to_latex

    return to_latex(table, intervals)


def _html(table: Table, intervals: bool = False) -> str:  # noqa: ARG001
    from harness.show.html import to_html

    return to_html(table)


def _csv(table: Table, intervals: bool = False) -> str:  # noqa: ARG001
    from harness.show.data import to_csv

    return to_csv(table)


def _json(table: Table, intervals: bool = False) -> str:  # noqa: ARG001
    from harness.show.data import to_json

    return to_json(table)


DEFAULT = "terminal"
FORMATS = {
    "terminal": Format((".txt",), _terminal),
    "markdown": Format((".md", ".markdown"), _markdown),
    "latex": Format((".tex",), _latex),
    "html": Format((".html", ".htm"), _html),
    "csv": Format((".csv",), _csv),
    "json": Format((".json",), _json),
}


def format_for(name: str | None, output: Path | None, endings: Mapping[str, tuple[str, ...]] | None = None) -> str:
    """Choose a format.

    Args:
        name: as the user says it; None: by the ending of the file.
        output: the file; None for a terminal.
        endings: of each format that there is; by default those of tables.

    Returns:
        The name of the format.

    Raises:
        UserError: an ending that no format has.
    """
    if name is not None or output is None:
        return name or DEFAULT
    ending = output.suffix.lower()
    formats = endings or {known: form.endings for known, form in FORMATS.items()}
    for known, its in formats.items():
        if ending in its:
            return known
    if not ending or not output.name.strip(".") or (output.exists() and not output.is_file()):
        return DEFAULT  # a name without an ending, a device
    known_endings = ", ".join(end for its in formats.values() for end in its)
    near = or_near(ending, [end for its in formats.values() for end in its])
    raise UserError(f"--output {output}: no format for {ending}; end it in {known_endings}, or say --format{near}")
