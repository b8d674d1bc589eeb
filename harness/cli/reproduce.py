"""`reproduce`: every table and picture of the pages made anew from the shipped records, and these checked."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from basis.arguments import Parser
from harness.cli import compare, failures, leaderboard, plot, study
from harness.errors import UserError
from harness.paths import ROOT
from harness.words import counted

if TYPE_CHECKING:
    from harness.show.pages import Manifest, ShownPicture, ShownTable


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    reproduce = commands.add_parser(
        "reproduce", help="make every table and picture of the pages anew, and fail on any difference"
    )
    reproduce.add_argument("--write", action="store_true", help="put what is made into the pages")
    reproduce.set_defaults(command=_reproduce)


def _reproduce(args: argparse.Namespace) -> int:
    from harness.show.pages import read_manifest

    manifest = read_manifest(ROOT)
    with _in_checkout():
        differences = [*_records(), *_tables(manifest, args.write), *_figures(manifest, args.write)]
    for text in differences:
        print(text)
    if not differences:
        print("everything is as its command makes it")
        return 0
    if not args.write:
        found = counted(len(differences), "difference")
        print(f"{found}; `reproduce --write` puts tables and pictures right", file=sys.stderr)
    return 1


def _records() -> Iterator[str]:
    """What shipped records say otherwise than their samples and protocols make."""
    from harness.analysis.recomputed import faults_of
    from harness.analysis.selection import find_runs
    from harness.show.pages import RECORDS

    for run in find_runs([Path(RECORDS)]):
        faults = faults_of(run)
        _say(f"{run.folder}/record.json", not faults)
        yield from (f"{run.folder}: {fault}" for fault in faults)


def _tables(manifest: Manifest, write: bool) -> Iterator[str]:
    from basis.files import read_text, write_atomically
    from harness.show.pages import difference, with_block

    for table in manifest.tables:
        page = read_text(table.file)
        made = with_block(page, table.command, _printed(table))
        differs = made != page
        _say(f"{table.file}: {table.command}", not differs, write)
        if differs and write:
            write_atomically(table.file, made)
        elif differs:
            yield difference(page, made, str(table.file), f"`{table.command}`")


def _figures(manifest: Manifest, write: bool) -> Iterator[str]:
    """Differences in the numbers of pictures, and in their files where the matplotlib that drew them is installed."""
    from basis.files import write_atomically
    from harness.show.pages import difference

    version = _matplotlib()
    draws = version == manifest.matplotlib
    if not draws:
        said = f"pictures were drawn by matplotlib {manifest.matplotlib}, here is {version}"
        print(f"{said}: only their numbers are compared", file=sys.stderr)
    for figure in manifest.figures:
        with tempfile.TemporaryDirectory() as folder:
            made = _drawn(figure, Path(folder), draws)
            for file, new in made.items():
                old = file.read_text(encoding="utf-8") if file.is_file() else ""
                _say(f"{file}: {figure.command}", old == new, write)
                if old != new and write:
                    write_atomically(file, new)
                elif old != new:
                    yield difference(old, new, str(file), f"`{figure.command}`")


def _printed(table: ShownTable) -> str:
    """What the command of a table prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        _command(table.command)
    return out.getvalue()


def _drawn(figure: ShownPicture, folder: Path, draws: bool) -> dict[Path, str]:
    """The texts of a picture's files, made in another folder."""
    files = [figure.data, *([figure.file] if draws else [])]
    places = {file: folder / file.name for file in files}
    data = str(places[figure.data])
    output = ["--output", str(places[figure.file]), "--data", data] if draws else ["--output", data]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        _command(figure.command, *output)
    return {file: place.read_text(encoding="utf-8") for file, place in places.items()}


def _command(line: str, *more: str) -> None:
    """Run a command of those that make tables and pictures."""
    parser = Parser(prog="run_eval.py")
    commands = parser.add_subparsers(required=True)
    for group in (leaderboard, compare, failures, plot, study):
        group.add_commands(commands)
    args = parser.parse_args([*shlex.split(line), *more])
    args.typed = tuple(shlex.split(line))
    if args.command(args):
        raise UserError(f"`{line}` fails")


@contextlib.contextmanager
def _in_checkout() -> Iterator[None]:
    """From the top of the checkout, as if nothing were staged: what is staged on a machine is no part of a page."""
    before, staged = Path.cwd(), os.environ.get("GDN2_DATA")
    with tempfile.TemporaryDirectory() as nothing:
        os.chdir(ROOT)
        os.environ["GDN2_DATA"] = nothing
        try:
            yield
        finally:
            os.chdir(before)
            if staged is None:
                del os.environ["GDN2_DATA"]
            else:
                os.environ["GDN2_DATA"] = staged


def _matplotlib() -> str:
    try:
        return importlib.metadata.version("matplotlib")
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _say(what: str, same: bool, write: bool = False) -> None:
    """A line for each thing that was made, on standard error."""
    print(f"{'same' if same else 'written' if write else 'DIFFERS'}  {what}", file=sys.stderr)
