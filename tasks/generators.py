"""Tasks whose documents are made, not read: one sample at a time, and a check that needs none.

The module of a task's `custom_dataset` offers `make_generator` beside it; whoever previews or checks a task asks here
and needs to know no task family.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Protocol


class SampleGenerator(Protocol):
    """Samples of one task at one length for one tokenizer."""

    def sample(self, index: int) -> dict[str, Any]:
        """Document `index`; raises TaskError if it cannot be made."""

    def check(self) -> None:
        """See that every sample can be made, without making them; raises TaskError if not."""


def find_generator(
    config: Mapping[str, Any], tokenizer: Any, *, context_prefix: str = "tokenizer"
) -> SampleGenerator | None:
    """The generator behind a resolved task's `config`; None for a task over real documents.

    Raises:
        TaskError: a wrong field of the task's spec.
        DataNotStaged: its data are not staged.
    """
    make = getattr(sys.modules[config["custom_dataset"].__module__], "make_generator", None)
    if make is None:
        return None
    arguments = dict(config["dataset_kwargs"])
    found: SampleGenerator = make(arguments.pop("spec"), tokenizer, context_prefix=context_prefix, **arguments)
    return found


def own_data_hashes(config: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of the data of the user's own that a resolved task reads; staged files are not among them."""
    hashes = getattr(sys.modules[config["custom_dataset"].__module__], "data_hashes", None)
    found: dict[str, str] = hashes(**config["dataset_kwargs"]) if hashes else {}
    return found
