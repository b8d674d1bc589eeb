"""`inspect`: what a checkpoint is, with its tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.checkpoints.find import find_checkpoint
from harness.checkpoints.imports import say_which_was_taken


def inspect_command(checkpoint: str, tokenizer: Path | None, console: Console, *, as_json: bool) -> None:
    """Print a description of a checkpoint.

    Raises:
        UserError, gdn2.checkpoints.CheckpointError: it is not there, cannot be read, or contradicts itself.
    """
    from gdn2.checkpoints.describe import describe

    path = find_checkpoint(checkpoint)
    say_which_was_taken(checkpoint, Console(stderr=True))
    with console.status(f"reading {path}"):
        found = describe(path)
    about = describe_tokenizer(tokenizer or (path if path.is_dir() else path.parent))
    if as_json:
        print(json.dumps({**found.as_dict(), "tokenizer": about}, indent=2))
        return
    from harness.show.inspection import print_description

    print_description(found, about, console)


def describe_tokenizer(folder: Path) -> dict[str, Any]:
    """Class, vocabulary, special tokens, and what it puts before a context; {"error": ...} if there is none."""
    from tasks.errors import TaskError
    from tasks.text.tokenizers import load_tokenizer, prefix_ids

    try:
        tokenizer = load_tokenizer(folder)
        prefix = prefix_ids(tokenizer, "tokenizer")
    except TaskError as error:
        return {"error": f"none that can be used ({error})"}
    return {
        "class": type(tokenizer).__name__,
        "vocabulary": len(tokenizer),
        "bos": tokenizer.bos_token,
        "bos_id": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token,
        "eos_id": tokenizer.eos_token_id,
        "adds_bos": tokenizer.bos_token_id is not None and tokenizer.bos_token_id in prefix,
        "prefix": tokenizer.convert_ids_to_tokens(prefix),
    }
