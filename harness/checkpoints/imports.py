"""Foreign checkpoints in front of the harness: `run_eval.py import`, and imports made on the way by `run`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from harness.checkpoints.find import find_checkpoint
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
    path = path if path.exists() else find_checkpoint(source)
    with console.status(f"importing {path}"):
        plan = import_checkpoint(path, folder, settings=parse_settings(settings), tokenizer=tokenizer)
    print_import(plan, folder, console)


def import_for_run(plan: Plan, options: RunOptions, console: Console) -> Plan:
    """The plan with a checkpoint of this project: the same, or a cached import of a foreign one."""
    from gdn2.checkpoints.importers import is_native

    if is_native(plan.checkpoint):
        return plan
    tokenizer = Path(options.tokenizer).expanduser() if options.tokenizer else None
    return replace(plan, checkpoint=cached_import(plan.checkpoint, tokenizer, console))


def cached_import(source: Path, tokenizer: Path | None, console: Console) -> Path:
    """The import of these very files: made once, found again by the hash of their content."""
    from gdn2.checkpoints import CheckpointError
    from gdn2.checkpoints.importers import plan_import
    from gdn2.checkpoints.importers.writing import content_key, tokenizer_files, write_import
    from harness.show.imports import print_import

    plan: ImportPlan = plan_import(source)
    tokenizer = tokenizer if tokenizer is not None and tokenizer.is_dir() else None
    with console.status(f"hashing {source}"):
        key = content_key([*plan.source.files, *tokenizer_files(plan, tokenizer)], plan.format)
    folder = data_dir().parent / CACHE / f"{source.resolve().stem}-{key[:16]}"
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
