"""Writing an import: config, weights in shards, tokenizer and import.json.

The folder is built beside its place and moved there in one step; one shard at a time is in memory.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gdn2.checkpoints.errors import CheckpointError
from gdn2.checkpoints.fingerprints import TOKENIZER_FILES, fingerprint
from gdn2.checkpoints.importers.keymap import Entry
from gdn2.checkpoints.importers.plan import ImportPlan
from gdn2.checkpoints.precision import IMPORT_FILE
from gdn2.checkpoints.tensors import write_tensors

COPIED_TOKENIZER_FILES = (
    *TOKENIZER_FILES,
    "added_tokens.json",
    "vocab.txt",
    "spiece.model",
    "chat_template.jinja",
    "generation_config.json",
)
SHARD_BYTES = 2 * 2**30
IMPORT_VERSION = 2  # of the importers: a higher number means that a cached import is made again


def write_import(plan: ImportPlan, folder: Path, tokenizer: Path | None = None) -> None:
    """Write `folder`: config.json, model.safetensors (in shards above 2 GiB), the tokenizer's files, import.json.

    Args:
        plan: the import.
        folder: the new folder, which must not exist.
        tokenizer: a folder with the tokenizer, by default the source's.

    Raises:
        CheckpointError: the folder exists or cannot be written, a tensor is not finite, or the tokenizer's folder has
            no tokenizer.
    """
    if folder.exists():
        raise CheckpointError(f"{folder}: exists already and is not overwritten; give another name or remove it")
    files = tokenizer_files(plan, tokenizer)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written ({error.strerror}); choose another place") from error
    try:
        temporary.chmod(0o777 & ~_umask())
        _write_weights(plan, temporary)
        for file in files:
            shutil.copyfile(file, temporary / file.name)
        if tokenizer is None:
            plan.source.write_tokenizer(temporary)
        _write_json(temporary / "config.json", _config(plan))
        _write_json(temporary / IMPORT_FILE, {**provenance(plan, files), "sha256": fingerprint(temporary)})
        if folder.exists():
            raise CheckpointError(f"{folder}: was made by another process meanwhile; nothing was overwritten")
        temporary.rename(folder)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def tokenizer_files(plan: ImportPlan, tokenizer: Path | None) -> list[Path]:
    """The files of the tokenizer that go with an import; none if the source has none.

    Raises:
        CheckpointError: `tokenizer` is given and holds none.
    """
    where = tokenizer or plan.source.folder
    found = [where / name for name in COPIED_TOKENIZER_FILES if (where / name).is_file()]
    if tokenizer is not None and not any(file.name in TOKENIZER_FILES for file in found):
        raise CheckpointError(f"{tokenizer}: no tokenizer in it; give a folder with tokenizer.json")
    return found


def provenance(plan: ImportPlan, tokenizer: list[Path]) -> dict[str, Any]:
    """What import.json says: where everything came from, and what was taken for granted."""
    return {
        "import_version": IMPORT_VERSION,
        "importer": plan.format,
        "source": plan.source.path.name if plan.source.path.is_file() else plan.source.name,
        "files": {file.name: file_sha256(file) for file in plan.source.files},
        "tokenizer_files": {file.name: file_sha256(file) for file in tokenizer},
        "tensors_read": len(plan.entries),
        "tensors_written": len(plan.shapes),
        "tensors_unused": list(plan.unused),
        **({"quantised": plan.source.quantised} if plan.source.quantised else {}),
        "assumed": plan.assumed,
        "settings": plan.settings,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def content_key(plan_files: list[Path], extra: Any) -> str:
    """SHA-256 of the source's files, the options and the importers' version: what a cached import is found by."""
    digest = hashlib.sha256(json.dumps([IMPORT_VERSION, extra], sort_keys=True, default=str).encode())
    for file in plan_files:
        digest.update(f"{file.name}\0{file_sha256(file)}\0".encode())
    return digest.hexdigest()


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def shards(plan: ImportPlan, limit: int = SHARD_BYTES) -> list[list[Entry]]:
    """The entries of each file, none above `limit` bytes unless a single tensor is."""
    found: list[list[Entry]] = [[]]
    size = 0
    for entry in plan.entries:
        stored = plan.source.tensors[entry.source]
        num_bytes = torch.Size(stored.shape).numel() * stored.dtype.itemsize
        if found[-1] and size + num_bytes > limit:
            found.append([])
            size = 0
        found[-1].append(entry)
        size += num_bytes
    return found


def _write_weights(plan: ImportPlan, folder: Path) -> None:
    parts = shards(plan)
    weight_map: dict[str, str] = {}
    total = 0
    for number, entries in enumerate(parts, start=1):
        name = "model.safetensors" if len(parts) == 1 else f"model-{number:05}-of-{len(parts):05}.safetensors"
        tensors = dict(_made(plan, entries))
        total += sum(tensor.nbytes for tensor in tensors.values())
        write_tensors(tensors, folder / name, {"format": "pt"})
        (folder / name).chmod(0o666 & ~_umask())  # the library makes it private
        weight_map |= dict.fromkeys(tensors, name)
    if len(parts) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        _write_json(folder / "model.safetensors.index.json", index)


def _made(plan: ImportPlan, entries: list[Entry]) -> Iterator[tuple[str, Tensor]]:
    for entry in entries:
        tensor = plan.source.tensors[entry.source].load()
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"{plan.source.path}: {entry.source} holds values that are NaN or infinite; the training that wrote it "
                "diverged, or the file is damaged"
            )
        for name, part in entry.make(tensor, plan.shapes).items():
            part = part.detach().contiguous()
            shares = part.untyped_storage().nbytes() != part.nbytes or entry.split is not None
            yield name, part.clone() if shares else part


def _config(plan: ImportPlan) -> dict[str, Any]:
    sizes: Counter[str] = Counter()
    for entry in plan.entries:
        stored = plan.source.tensors[entry.source]
        sizes[str(stored.dtype).removeprefix("torch.")] += torch.Size(stored.shape).numel()
    fields: dict[str, Any] = json.loads(plan.config.to_json_string())
    fields.pop("hybrid", None)  # `layers` says it
    return {**fields, "architectures": ["GDN2ForCausalLM"], "dtype": sizes.most_common(1)[0][0]}


def _write_json(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
