"""What a checkpoint is, with its tokenizer."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.checkpoints.find import find_checkpoint

if TYPE_CHECKING:
    from gdn2.checkpoints.describe import Description


@dataclass(frozen=True)
class Inspection:
    """A checkpoint and its tokenizer.

    Attributes:
        model: layers, parameters, state, files and hash.
        tokenizer: as `describe_tokenizer` gives it.
    """

    model: Description
    tokenizer: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """As it is in JSON."""
        return {**self.model.as_dict(), "tokenizer": self.tokenizer}


def inspect(checkpoint: str, tokenizer: Path | None = None) -> Inspection:
    """Describe a checkpoint from the headers of its files.

    Args:
        checkpoint: a path, or a name of the zoo.
        tokenizer: folder of the tokenizer, if it is not the checkpoint's.

    Raises:
        UserError, gdn2.checkpoints.CheckpointError: it is not there, cannot be read, or contradicts itself.
    """
    from gdn2.checkpoints.describe import describe

    path = find_checkpoint(checkpoint)
    found = describe(path)
    if tokenizer is None and path.suffix == ".gguf":
        return Inspection(found, _tokenizer_inside(path))
    return Inspection(found, describe_tokenizer(tokenizer or (path if path.is_dir() else path.parent)))


def _tokenizer_inside(file: Path) -> dict[str, Any]:
    """The tokenizer that an import makes of a GGUF file's own."""
    from gdn2.checkpoints import CheckpointError
    from gdn2.checkpoints.gguf import GGUFSource

    with tempfile.TemporaryDirectory(prefix="gdn2-tokenizer-") as folder:
        try:
            GGUFSource(file).write_tokenizer(Path(folder))
        except CheckpointError as error:
            return {"error": f"none that can be used ({error})"}
        return describe_tokenizer(Path(folder))


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
