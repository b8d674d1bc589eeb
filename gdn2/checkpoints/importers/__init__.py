"""Foreign checkpoints as checkpoints of this project: `import_checkpoint(SRC, DST)`.

A format is one module with an `IMPORTER`: it says which sources it knows, what their configuration means, and which of
their tensors becomes which of ours. The rest is shared: the key map is checked as a whole, the folder is written beside
its place and moved there in one step.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from basis.errors import shown
from basis.names import listed
from gdn2.checkpoints.errors import CheckpointError
from gdn2.checkpoints.folders import checkpoint_folder
from gdn2.checkpoints.importers import fla, gguf, mamba_ssm, official, transformers, unread
from gdn2.checkpoints.importers.plan import Importer, ImportPlan, Source, parse_settings
from gdn2.checkpoints.importers.writing import write_import
from gdn2.config import GDN2Config

IMPORTERS: tuple[Importer, ...] = tuple(one.IMPORTER for one in (gguf, fla, transformers, mamba_ssm, official))

__all__ = ["IMPORTERS", "ImportPlan", "Source", "import_checkpoint", "is_native", "parse_settings", "plan_import"]


def import_checkpoint(
    source: Path, folder: Path, *, settings: Mapping[str, Any] | None = None, tokenizer: Path | None = None
) -> ImportPlan:
    """Write a foreign checkpoint as a folder of this project; see `plan_import` and `write_import`."""
    plan = plan_import(source, settings)
    write_import(plan, folder, tokenizer)
    return plan


def plan_import(path: Path, settings: Mapping[str, Any] | None = None) -> ImportPlan:
    """Recognise a checkpoint and work out how it becomes one of ours, without reading a tensor.

    Args:
        path: a folder or a file with weights.
        settings: fields of `GDN2Config` that the source does not tell, or tells wrongly.

    Raises:
        CheckpointError: a file that cannot be read, an unknown format, options that the model does not have, tensors
            that are missing, unknown or of another shape.
    """
    source = Source(path)
    if is_native(path):
        raise CheckpointError(f"{path}: is a checkpoint of this project already; evaluate it as it is")
    unread.refuse_unread(source)
    for importer in IMPORTERS:
        if importer.matches(source):
            return importer.plan(source, dict(settings or {}))
    if reason := unread.trainers_layout(source):
        raise CheckpointError(f"{path}: is not read: {reason}")
    types = ", ".join(sorted({*fla.KINDS, *transformers.KINDS}))
    known = f"model_type {types} of flash-linear-attention or transformers, GGUF files, "
    known += "folders of mamba_ssm, and files of the GDN-2 training code"
    if "auto_map" in source.config:
        known += "; code of a repository (auto_map) is never executed"
    raise CheckpointError(f"{path}: of no known format ({_looks(source)}); known are: {known}")


def is_native(path: Path) -> bool:
    """Whether this is a folder that `load_checkpoint` reads."""
    path = checkpoint_folder(path)
    if not (path / "config.json").is_file():
        return False
    config = Source(path).config
    foreign = {"expand_v", "hidden_ratio"} & config.keys()  # flash-linear-attention's words
    return config.get("model_type") == GDN2Config.model_type and not foreign


def _looks(source: Source) -> str:
    kind = f"model_type {shown(source.model_type)}, " if source.config_file else "no config.json, "
    return f"{kind}tensors {listed(sorted(source.tensors), 3)}"
