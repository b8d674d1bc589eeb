"""The tile of a variant: the default of tiles.py, or a faster one that was measured on this GPU model.

Tiles depend on head sizes, precision and GPU, never on lengths, so nothing is measured during an evaluation. What
`tuning.py` finds is kept in small JSON files, one for each GPU model and Triton release: the user's own are under
$GDN2_CACHE, by default ~/.cache/gdn2, and some ship in the folder tuned/. A file that cannot be read is ignored with a
warning, and so is an entry that names an unknown variant or a tile that is not among its candidates.
"""

from __future__ import annotations

import json
import logging
import os
from functools import lru_cache
from pathlib import Path

import torch
import triton

from basis.files import replacing
from gdn2.ops.triton.tiles import Tile, tiles_for
from gdn2.ops.triton.variants import VARIANTS, Variant

SHIPPED = Path(__file__).parent / "tuned"

log = logging.getLogger("gdn2")


def tile_for(variant: Variant, KP: int, VP: int, precision: str, device: torch.device) -> Tile:
    """The tile that was tuned for this GPU and Triton, by the user or before shipping; else the default."""
    if device.type != "cuda":
        return tiles_for(variant, KP, VP, precision)[0]
    tiles = tiles_for(variant, KP, VP, precision, architecture(device))
    key = key_of(variant, KP, VP, precision)
    for file in (cache_file(device), SHIPPED / cache_file(device).name):
        tuned = read(file).get(key)
        if tuned in tiles:
            return tuned
        if tuned is not None:
            log.warning("%s: %s is no candidate of %s, and left aside. Run the tuning again.", file, tuned, key)
    return tiles[0]


def cache_file(device: torch.device) -> Path:
    """The user's own file of tiles for this GPU model and Triton release."""
    folder = Path(os.environ.get("GDN2_CACHE") or Path.home() / ".cache" / "gdn2")
    name = gpu_name(device).replace(" ", "-").replace("/", "-")
    return folder / "tiles" / f"{name}-triton-{triton.__version__}.json"


@lru_cache(maxsize=16)
def read(file: Path) -> dict[str, Tile]:
    """The tiles in a file by their keys; empty if there is no such file, or if it cannot be read."""
    if not file.exists():
        return {}
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(kept, dict):
            raise ValueError(f"a {type(kept).__name__} where an object should be")
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read (%s): default tiles are used. Remove it or run the tuning again.", file, error)
        return {}
    unknown = [key for key in kept if str(key).split(" ")[0] not in VARIANTS]
    if unknown:
        log.warning("%s names unknown kernels, left aside: %s", file, ", ".join(unknown))
    return {key: tile for key, tile in kept.items() if key not in unknown}


def write(file: Path, tiles: dict[str, Tile]) -> None:
    """Add tiles, by their keys, to a file: it changes as a whole or not at all."""
    kept = read(file) | tiles
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    read.cache_clear()


@lru_cache(maxsize=16)
def architecture(device: torch.device) -> int:
    """The compute capability of a device, times ten; 90 for a CPU, on which kernels are interpreted."""
    if device.type != "cuda":
        return 90
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


@lru_cache(maxsize=16)
def gpu_name(device: torch.device) -> str:
    """The model of a GPU, as its driver calls it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "interpreter"


def key_of(variant: Variant, KP: int, VP: int, precision: str) -> str:
    """The key in the files of a variant with these padded head sizes and this precision."""
    return f"{variant.name} {KP}x{VP} {precision}"
