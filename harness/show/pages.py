"""What pages show of our records: blocks between comments, and pictures, each with the command that makes it.

`results/reproduce.yaml` names each; a block of a page begins with a comment that has its command, too.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basis.files import load_yaml, read_text
from harness.errors import UserError

MANIFEST = Path("results/reproduce.yaml")
RECORDS = "results/leaderboard"
STUDIES = "results/studies"
BLOCK = re.compile(r"<!-- made by `python run_eval\.py (?P<command>.*?)` -->\n(?P<text>.*?)<!-- end -->", re.DOTALL)
PAGES = ("README.md", "docs/*.md")


@dataclass(frozen=True)
class ShownTable:
    """A block of a page: the page, and the command whose output it is."""

    file: Path
    command: str


@dataclass(frozen=True)
class ShownPicture:
    """A picture: its file, the file of the numbers in it, and the command that makes both, without --output."""

    file: Path
    data: Path
    command: str


@dataclass(frozen=True)
class Manifest:
    """All that pages show of our records; the version of matplotlib that drew the pictures."""

    tables: tuple[ShownTable, ...]
    figures: tuple[ShownPicture, ...]
    matplotlib: str


def read_manifest(root: Path) -> Manifest:
    """Read the manifest of a checkout, and see that it names just the blocks that its pages have.

    Raises:
        UserError: there is none; a field is missing; a command does not say which records it reads; a page has a block
            that it does not name, or lacks one.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise UserError(f"{path}: no such file; a checkout has the pages that it names, an installed package has not")
    raw = load_yaml(path)
    if not isinstance(raw, dict) or raw.keys() != {"tables", "figures", "matplotlib"}:
        raise UserError(f"{path}: must have the fields tables, figures and matplotlib")
    tables = tuple(ShownTable(Path(entry["file"]), entry["command"]) for entry in _entries(path, raw, "tables"))
    figures = tuple(
        ShownPicture(Path(entry["file"]), Path(entry["data"]), entry["command"])
        for entry in _entries(path, raw, "figures")
    )
    named = [(str(table.file), table.command) for table in tables]
    shown = [
        (str(page.relative_to(root)), block["command"])
        for pattern in PAGES
        for page in sorted(root.glob(pattern))
        for block in BLOCK.finditer(read_text(page))
    ]
    for file, command in named:
        if named.count((file, command)) != shown.count((file, command)):
            raise UserError(f"{path}: {file} has no block, or several, that begins with {begin(command)}")
    for file, command in shown:
        if (file, command) not in named:
            raise UserError(f"{root / file}: a block made by `{command}` that {MANIFEST} does not name; name it there")
    return Manifest(tables, figures, str(raw["matplotlib"]))


def _entries(path: Path, raw: Mapping[str, Any], field: str) -> Sequence[Mapping[str, str]]:
    wanted = {"file", "command"} | ({"data"} if field == "figures" else set())
    entries = raw[field]
    if not isinstance(entries, list):
        raise UserError(f"{path}: {field} must be a list")
    for place, entry in enumerate(entries):
        is_right = isinstance(entry, dict) and entry.keys() == wanted
        if not is_right or not all(isinstance(value, str) for value in entry.values()):
            raise UserError(f"{path}: {field}[{place}] must have the fields {', '.join(sorted(wanted))}, each a text")
        arguments = shlex.split(entry["command"])
        is_study = arguments[:1] == ["study"]
        option = "--output" if is_study else "--results"
        folder = STUDIES if is_study or arguments[:2] == ["plot", "study"] else RECORDS
        if option not in arguments or arguments[arguments.index(option) + 1 :][:1] != [folder]:
            raise UserError(f"{path}: {field}[{place}] must say {option} {folder}, or it shows other runs, too")
        if is_study and "--plan" not in arguments:
            raise UserError(f"{path}: {field}[{place}] must say --plan, or it would train what is missing")
    return entries


def begin(command: str) -> str:
    """The comment that a block begins with."""
    return f"<!-- made by `python run_eval.py {command}` -->"


def with_block(page: str, command: str, text: str) -> str:
    """A page whose block of a command has a text."""
    start = page.index(begin(command)) + len(begin(command)) + 1
    return page[:start] + f"\n{text}\n" + page[page.index("<!-- end -->", start) :]


def difference(old: str, new: str, name: str, how: str) -> str:
    """The unified difference of a file; empty where there is none.

    Args:
        old: as it is shipped.
        new: as it is made now.
        name: of the file.
        how: what makes it.
    """
    lines = difflib.unified_diff(
        old.split("\n"), new.split("\n"), f"{name} (shipped)", f"{name} (made by {how})", lineterm=""
    )
    return "\n".join(lines)
