"""Foreign checkpoints in front of the harness: `run_eval.py import`, and imports made on the way by `run`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from basis.errors import FileError
from basis.files import load_json
from basis.hub import checkpoint_name
from harness.checkpoints.find import find_checkpoint, which_was_taken
from harness.run.options import Plan, RunOptions
from tasks.data import data_dir

if TYPE_CHECKING:
    from gdn2.checkpoints.importers import ImportPlan

CACHE = "imported"  # beside the staged data


def import_command(source: str, folder: Path, settings: list[str], tokenizer: Path | None, console: Console) -> None:
    """`run_eval.py import`: write `folder` and say what was taken for granted.

    Raises:
        UserError, gdn2.checkpoints.CheckpointError: with all that does not fit.
    """
    from gdn2.checkpoints.importers import import_checkpoint, parse_settings
    from harness.show.imports import print_import

    path = Path(source).expanduser()
    say_which_was_taken(source, console)
    path = path if path.is_file() else find_checkpoint(source)
    with console.status(f"importing {path}"):
        plan = import_checkpoint(path, folder, settings=parse_settings(settings), tokenizer=tokenizer)
    print_import(plan, folder, console)


def import_for_run(plan: Plan, options: RunOptions, console: Console) -> Plan:
    """The plan with a checkpoint of this project: the same, or a cached import of a foreign one."""
    from gdn2.checkpoints.importers import is_native

    say_which_was_taken(options.checkpoint, console)
    if not is_native(plan.checkpoint):
        tokenizer = Path(options.tokenizer).expanduser() if options.tokenizer else None
        plan = replace(plan, checkpoint=cached_import(plan.checkpoint, tokenizer, console))
    if note := prefix_guess(plan.checkpoint, plan.context_prefix):
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    return plan


def prefix_guess(folder: Path, context_prefix: str) -> str | None:
    """Say where a context prefix is a guess; None if it is not.

    Args:
        folder: a checkpoint of this project.
        context_prefix: as chosen.

    Returns:
        A sentence about imports of the GDN-2 training code behind the prefix `tokenizer`.
    """
    from gdn2.checkpoints.importers import official
    from gdn2.checkpoints.importers.writing import IMPORT_FILE

    if context_prefix != "tokenizer":
        return None
    try:
        imported = load_json(folder / IMPORT_FILE)
    except FileError:
        return None
    if not isinstance(imported, dict) or imported.get("importer") != official.NAME:
        return None
    return (
        "the context prefix `tokenizer` is a guess for a checkpoint of the GDN-2 training code: its streamed data have "
        "BOS before each document, what its packed data have is unknown; `check` shows the loss with others beside it"
    )


def say_which_was_taken(name: str, console: Console) -> None:
    """Print which checkpoint was taken, where a name could mean two."""
    if note := which_was_taken(name):
        console.print(note, highlight=False, markup=False, soft_wrap=True)


def cached_import(source: Path, tokenizer: Path | None, console: Console) -> Path:
    """The import of these very files: made once, found again by the hash of their content.

    One that was damaged since is put aside (its name then ends in ".damaged") and made again.
    """
    from gdn2.checkpoints import CheckpointError
    from gdn2.checkpoints.importers import plan_import
    from gdn2.checkpoints.importers.writing import content_key, tokenizer_files, write_import
    from harness.show.imports import print_import

    plan: ImportPlan = plan_import(source)
    tokenizer = tokenizer if tokenizer is not None and tokenizer.is_dir() else None
    with console.status(f"hashing {source}"):
        key = content_key([*plan.source.files, *tokenizer_files(plan, tokenizer)], plan.format)
    folder = data_dir().parent / CACHE / f"{checkpoint_name(source)}-{key[:16]}"
    if folder.is_dir() and (problem := _damage(folder)):
        aside = _put_aside(folder)
        console.print(f"made again: {problem} (the old one is {aside})", highlight=False, markup=False, soft_wrap=True)
    if folder.is_dir():
        console.print(f"imported earlier: {folder}", highlight=False, soft_wrap=True)
        return folder
    try:
        with console.status(f"importing {source}"):
            write_import(plan, folder, tokenizer)
    except CheckpointError:
        if not folder.is_dir():
            raise
        return folder  # another run made the same one meanwhile
    print_import(plan, folder, console)
    return folder


def _damage(folder: Path) -> str | None:
    """Say what is wrong with a cached import, as far as its configuration and the headers of its files tell."""
    from gdn2.checkpoints import CheckpointError
    from gdn2.checkpoints.describe import describe
    from gdn2.checkpoints.importers.writing import IMPORT_FILE

    try:
        found = describe(folder)
    except CheckpointError as error:
        return str(error)
    written = found.imported.get("sha256")
    if written is not None and written != found.sha256:
        return f"{folder / IMPORT_FILE}: config.json and weights have another SHA-256 than when they were written"
    return None if found.imported else f"{folder}: {IMPORT_FILE} is missing"


def _put_aside(folder: Path) -> Path:
    number = 0
    while (aside := folder.with_name(f"{folder.name}{f'.{number}' if number else ''}.damaged")).exists():
        number += 1
    return folder.rename(aside)
