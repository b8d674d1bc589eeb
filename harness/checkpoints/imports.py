"""Foreign checkpoints in front of the harness: imported by command, or on the way by `run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from basis.errors import FileError
from basis.files import load_json
from basis.hub import checkpoint_name
from harness.checkpoints.find import find_checkpoint
from harness.engine.meter import Status, no_status
from tasks.data import data_dir

if TYPE_CHECKING:
    from gdn2.checkpoints.importers import ImportPlan

CACHE = "imported"  # beside the staged data


@dataclass(frozen=True)
class Imported:
    """A foreign checkpoint as one of this project.

    Attributes:
        folder: where it is.
        plan: what was done to its tensors and fields.
        is_new: whether it was imported now; otherwise an earlier import of the same files was found.
        notes: what else a user should know of it.
    """

    folder: Path
    plan: ImportPlan
    is_new: bool
    notes: tuple[str, ...] = ()


def import_source(
    source: str, folder: Path, settings: list[str], tokenizer: Path | None, *, status: Status = no_status
) -> Imported:
    """Import a checkpoint into a new folder.

    Args:
        source: a path, or a name of the zoo.
        folder: must not exist yet.
        settings: what the source does not tell, as FIELD=VALUE.
        tokenizer: folder of the tokenizer, by default beside the source.
        status: shows what takes a while.

    Raises:
        UserError, gdn2.checkpoints.CheckpointError: with all that does not fit.
    """
    from gdn2.checkpoints.importers import import_checkpoint, parse_settings

    path = Path(source).expanduser()
    path = path if path.is_file() else find_checkpoint(source)
    with status(f"importing {path}"):
        plan = import_checkpoint(path, folder, settings=parse_settings(settings), tokenizer=tokenizer)
    return Imported(folder, plan, is_new=True)


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


def cached_import(
    source: Path, tokenizer: Path | None, *, settings: Mapping[str, Any] | None = None, status: Status = no_status
) -> Imported:
    """The import of these very files: made once, found again by the hash of their content.

    One that was damaged since is put aside (its name then ends in ".damaged") and made again.

    Args:
        source: a foreign folder or file.
        tokenizer: folder of the tokenizer, by default beside the source.
        settings: fields of `GDN2Config` that the source does not tell.
        status: shows what takes a while.

    Raises:
        gdn2.checkpoints.CheckpointError: a source that cannot be imported.
    """
    from gdn2.checkpoints import CheckpointError
    from gdn2.checkpoints.importers import plan_import
    from gdn2.checkpoints.importers.writing import content_key, tokenizer_files, write_import

    plan: ImportPlan = plan_import(source, settings)
    tokenizer = tokenizer if tokenizer is not None and tokenizer.is_dir() else None
    with status(f"hashing {source}"):
        files = [*plan.source.files, *tokenizer_files(plan, tokenizer)]
        key = content_key(files, [plan.format, dict(settings)] if settings else plan.format)
    folder, notes = data_dir().parent / CACHE / f"{checkpoint_name(source)}-{key[:16]}", tuple[str, ...]()
    if folder.is_dir() and (problem := _damage(folder)):
        notes = (f"made again: {problem} (the old one is {_put_aside(folder)})",)
    if folder.is_dir():
        return Imported(folder, plan, is_new=False)
    try:
        with status(f"importing {source}"):
            write_import(plan, folder, tokenizer)
    except CheckpointError:
        if not folder.is_dir():
            raise
        return Imported(folder, plan, is_new=False)  # another run made the same one meanwhile
    return Imported(folder, plan, is_new=True, notes=notes)


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
