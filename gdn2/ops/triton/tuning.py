"""The tile of a kernel for a shape."""

from __future__ import annotations

from functools import lru_cache

from gdn2.ops.triton.tiles import Tile, tiles_for


@lru_cache(maxsize=4096)
def tile_for(kernel: str, KP: int, VP: int, precision: str, programs: int) -> Tile:  # noqa: ARG001
    return tiles_for(kernel, KP, VP, precision, 90)[0]
