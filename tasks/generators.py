"""Tasks whose documents are made, not read: one sample at a time, and a check that needs none."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tasks import data, families
from tasks.task_files import own_file


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
    family = families.built_by(_builder(config))
    if family is None or not family.makes_documents:
        return None
    arguments = dict(config["dataset_kwargs"])
    make = family.function("make_generator")
    found: SampleGenerator = make(arguments.pop("spec"), tokenizer, context_prefix=context_prefix, **arguments)
    return found


def prepare_samples(configs: Sequence[Mapping[str, Any]], tokenizer: str, *, context_prefix: str) -> None:
    """Make and store the samples of tasks that take long to draw, by several processes where that pays.

    Args:
        configs: of resolved tasks; those of families that store nothing are passed over.
        tokenizer: folder or hub name of the tokenizer that fills the samples.
        context_prefix: what comes before the prompts.
    """
    for family in families.FAMILIES:
        if family.store is not None:
            module, _, name = family.store.rpartition(".")
            prepare: Callable[..., None] = getattr(importlib.import_module(module), name)
            specs = [config["dataset_kwargs"]["spec"] for config in configs if _builder(config) == family.builder]
            prepare(specs, tokenizer, context_prefix=context_prefix)


def own_data_hashes(config: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of what a resolved task reads of the user's own: texts, and Python files with its functions.

    Staged files are not among them.
    """
    values = [*config.values(), *(value for entry in config.get("metric_list") or () for value in entry.values())]
    files = {file.name: data.file_sha256(file) for file in map(own_file, values) if file is not None}
    family = families.built_by(_builder(config))
    if family is None or not family.has_own_texts:
        return files
    texts: dict[str, str] = family.function("data_hashes")(**config["dataset_kwargs"])
    return {**files, **texts}


def _builder(config: Mapping[str, Any]) -> str:
    function = config["custom_dataset"]
    return f"{function.__module__}.{function.__qualname__}"
