"""The formats in which a leaderboard can be written: a name, the endings of its files, a function. One a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.records.table import Table


@dataclass(frozen=True)
class Format:
    """A format of tables.

    Attributes:
        endings: of files that have it, with their dots.
        write: makes the text of a table.
    """

    endings: tuple[str, ...]
    write: Callable[[Table], str]


def _terminal(table: Table) -> str:
    from harness.show.terminal import to_text

    return to_text(table)


def _markdown(table: Table) -> str:
    from harness.show.markdown import to_markdown

    return to_markdown(table)


DEFAULT = "terminal"
FORMATS = {
    "terminal": Format((".txt",), _terminal),
    "markdown": Format((".md", ".markdown"), _markdown),
}


def format_for(name: str | None, output: Path | None) -> str:
    """Choose a format.

    Args:
        name: as the user says it; None: by the ending of the file.
        output: the file; None for a terminal.

    Returns:
        The name of the format.

    Raises:
        UserError: an ending that no format has.
    """
    if name is not None or output is None:
        return name or DEFAULT
    ending = output.suffix.lower()
    for known, form in FORMATS.items():
        if ending in form.endings:
            return known
    if not ending or not output.name.strip(".") or (output.exists() and not output.is_file()):
        return DEFAULT  # a name without an ending, a device
    endings = ", ".join(end for form in FORMATS.values() for end in form.endings)
    raise UserError(f"--output {output}: no format for {ending}; end it in {endings}, or say --format")
