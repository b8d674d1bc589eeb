"""In which dtype a checkpoint runs: as asked, or chosen by where it runs and what its weights are stored in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch

from basis.names import must_be_one_of
from gdn2.checkpoints.errors import CheckpointError
from gdn2.checkpoints.folders import checkpoint_folder
from gdn2.checkpoints.tensors import Stored, open_weights, read_json

AUTO = "auto"
IMPORT_FILE = "import.json"
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ON_A_CPU = "float32"


def stored_dtypes(stored: Mapping[str, Stored]) -> dict[str, int]:
    """How many numbers are stored in each dtype, the most common first."""
    found: Counter[str] = Counter()
    for one in stored.values():
        found[str(one.dtype).removeprefix("torch.")] += torch.Size(one.shape).numel()
    return dict(found.most_common())


def saved_dtype(path: Path) -> str:
    """The dtype that most numbers of a checkpoint are stored in, read off the headers of its files.

    Args:
        path: the folder.

    Raises:
        CheckpointError: weights that cannot be read, or none.
    """
    found = stored_dtypes(open_weights(path))
    if not found:
        raise CheckpointError(f"{path}: its files with weights hold no tensors; copy them again")
    return next(iter(found))


def quantised(path: Path) -> str | None:
    """How the weights of an import had been quantised, as its import.json says; None if they had not.

    Args:
        path: a folder of this project.

    Raises:
        CheckpointError: an import.json that cannot be read.
    """
    file = checkpoint_folder(path) / IMPORT_FILE
    said = read_json(file).get("quantised") if file.is_file() else None
    return None if said is None else str(said)


def choose_dtype(path: Path, dtype: str, device: str) -> str:
    """The dtype to run a checkpoint in.

    Args:
        path: the checkpoint's folder.
        dtype: a name, taken as it is; or "auto": on a CPU float32, elsewhere what the checkpoint is stored in.
        device: a torch device, such as "cpu" or "cuda:1".

    Raises:
        CheckpointError: an unknown name, or weights that cannot be read.
    """
    if dtype != AUTO and dtype not in DTYPES:
        raise CheckpointError(f"dtype {must_be_one_of((AUTO, *DTYPES), dtype)}")
    if dtype != AUTO:
        return dtype
    return ON_A_CPU if device.split(":")[0] == "cpu" else saved_dtype(path)
