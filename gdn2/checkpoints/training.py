"""By which recipe a checkpoint was trained, as the file that its training left beside the weights says."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from basis.errors import FileError
from basis.files import load_yaml
from gdn2.checkpoints.folders import checkpoint_folder

RECIPE_FILE = "recipe.yaml"
OF_ONE_RUN = ("name", "seed", "about", "log_every", "save_every")
"""Fields of a recipe in which two seeds of one training differ, or which change nothing."""


@dataclass(frozen=True)
class TrainedBy:
    """A training and its seed.

    Attributes:
        recipe: 16 hexadecimal digits of the SHA-256 of all that two seeds of one training have in common.
        seed: of the weights and of every batch.
    """

    recipe: str
    seed: int


def training_of(path: Path) -> TrainedBy | None:
    """Read which training a checkpoint comes from.

    Args:
        path: a checkpoint's folder.

    Returns:
        The training; None without a recipe of `python -m gdn2.train` that can be read and names its seed.
    """
    file = checkpoint_folder(path) / RECIPE_FILE
    try:
        raw = load_yaml(file) if file.is_file() else None
    except FileError:
        return None
    if not isinstance(raw, dict) or type(raw.get("seed")) is not int:
        return None
    common = {name: value for name, value in raw.items() if name not in OF_ONE_RUN}
    text = json.dumps(common, sort_keys=True, default=str)
    return TrainedBy(hashlib.sha256(text.encode()).hexdigest()[:16], raw["seed"])
