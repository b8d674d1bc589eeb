"""GGUF files of llama.cpp: Llama, Mistral, Qwen2 and Qwen3, read as transformers' folders of these models are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gdn2.checkpoints.gguf import SUFFIX, GGUFSource
from gdn2.checkpoints.importers import transformers
from gdn2.checkpoints.importers.plan import Importer, ImportPlan, Source


def matches(source: Source) -> bool:
    """Say whether the source is a file with that ending."""
    return source.path.is_file() and source.path.suffix == SUFFIX


def plan(source: Source, settings: Mapping[str, Any]) -> ImportPlan:
    """Make the plan as for a folder of transformers with the same configuration and tensors.

    Raises:
        CheckpointError: a file that cannot be read, another architecture, keys or tensors that do not fit.
    """
    read = source if isinstance(source, GGUFSource) else GGUFSource(source.path)
    made = transformers.plan(read, settings)
    return replace(made, format=f"gguf {read.model_type}")


IMPORTER = Importer("gguf", matches, plan)
