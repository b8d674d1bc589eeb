"""The tile of a kernel: the table's default, or what a measurement on this GPU found better.

Tiles depend on head sizes, precision and GPU, never on lengths, so nothing is measured during an evaluation. What
`tuning.py` found is a small JSON file for each GPU model and Triton release: the user's under $GDN2_CACHE, by default
~/.cache/gdn2, and some that ship in the folder tuned/. A file that cannot be read, and what is no candidate of a known
kernel, is left aside with a warning.
"""

from __future__ import annotations

import json
import logging
import os
from functools import lru_cache
from pathlib import Path

import torch
import triton

from gdn2.ops.triton.tiles import CANDIDATES, Tile, tiles_for

SHIPPED = Path(__file__).parent / "tuned"

log = logging.getLogger("gdn2")


def tile_for(kernel: str, KP: int, VP: int, precision: str, device: torch.device) -> Tile:
    """The tile tuned for this GPU and Triton, by the user or as it ships, else the default."""
    if device.type != "cuda":
        return tiles_for(kernel, KP, VP, precision)[0]
    tiles = tiles_for(kernel, KP, VP, precision, architecture(device))
    key = key_of(kernel, KP, VP, precision)
    for file in (cache_file(device), SHIPPED / cache_file(device).name):
        tuned = read(file).get(key)
        if tuned in tiles:
            return tuned
        if tuned is not None:
            log.warning("%s: %s is no candidate of %s, and left aside. Run the tuning again.", file, tuned, key)
    return tiles[0]


def cache_file(device: torch.device) -> Path:
    """Where tuned tiles of this GPU model are kept."""
    folder = Path(os.environ.get("GDN2_CACHE") or Path.home() / ".cache" / "gdn2")
    name = gpu_name(device).replace(" ", "-").replace("/", "-")
    return folder / "tiles" / f"{name}-triton-{triton.__version__}.json"


@lru_cache(maxsize=16)
def read(file: Path) -> dict[str, Tile]:
    """Tiles by key; none where there is no such file, or none that can be read."""
    if not file.exists():
        return {}
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(kept, dict):
            raise ValueError(f"a {type(kept).__name__} where an object should be")
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read (%s): default tiles are used. Remove it or run the tuning again.", file, error)
        return {}
    unknown = [key for key in kept if str(key).split(" ")[0] not in CANDIDATES]
    if unknown:
        log.warning("%s names unknown kernels, left aside: %s", file, ", ".join(unknown))
    return {key: tile for key, tile in kept.items() if key not in unknown}


def write(file: Path, tiles: dict[str, Tile]) -> None:
    """Add to the file, whole or not at all."""
    kept = read(file) | tiles
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(file)
    read.cache_clear()


@lru_cache(maxsize=16)
def architecture(device: torch.device) -> int:
    """Compute capability x 10."""
    if device.type != "cuda":
        return 90
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


@lru_cache(maxsize=16)
def gpu_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "interpreter"


def key_of(kernel: str, KP: int, VP: int, precision: str) -> str:
    """A kernel's name in the files."""
    return f"{kernel} {KP}x{VP} {precision}"
