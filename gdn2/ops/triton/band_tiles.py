"""The tiles of attention over runs of tokens: a few candidates for each kernel and head, the default first.

`python benchmarks/banded.py` measures all of them on a GPU.
"""

from __future__ import annotations

import torch
import triton

from gdn2.ops.triton.choice import architecture
from gdn2.ops.triton.tiles import Tile, shared_memory_limit

FORWARD, OF_QUERIES, OF_KEYS = "forward", "of_queries", "of_keys"
LITTLE = 110 * 1024  # bytes of shared memory of a chip that gets the small tiles


def _tile(BM: int, BN: int, num_warps: int, num_stages: int) -> Tile:
    return {"BM": BM, "BN": BN, "num_warps": num_warps, "num_stages": num_stages}


# By padded channels of a head in two bytes.
HALF: dict[str, dict[int, list[Tile]]] = {
    FORWARD: {
        64: [_tile(128, 64, 4, 3), _tile(128, 128, 8, 2)],
        128: [_tile(128, 64, 8, 3), _tile(128, 128, 8, 2), _tile(64, 64, 4, 3), _tile(64, 64, 4, 2)],
        256: [_tile(128, 64, 8, 1), _tile(64, 64, 4, 1)],
    },
    OF_QUERIES: {
        64: [_tile(128, 64, 8, 2), _tile(64, 64, 4, 2)],
        128: [_tile(128, 64, 8, 2), _tile(64, 64, 4, 2), _tile(128, 32, 8, 3)],
        256: [_tile(64, 32, 8, 1)],
    },
    OF_KEYS: {
        64: [_tile(64, 128, 8, 2), _tile(64, 64, 4, 2)],
        128: [_tile(32, 128, 8, 3), _tile(64, 128, 8, 2), _tile(64, 64, 4, 2), _tile(64, 64, 8, 2)],
        256: [_tile(32, 64, 8, 1)],
    },
}
# By padded channels of a head in four bytes, whose products are three each.
WHOLE: dict[str, dict[int, list[Tile]]] = {
    FORWARD: {64: [_tile(64, 32, 4, 2)], 128: [_tile(64, 32, 8, 1)], 256: [_tile(32, 16, 8, 1)]},
    OF_QUERIES: {64: [_tile(64, 32, 8, 1)], 128: [_tile(32, 32, 8, 1)], 256: [_tile(16, 16, 8, 1)]},
    OF_KEYS: {64: [_tile(32, 64, 8, 1)], 128: [_tile(32, 32, 8, 1)], 256: [_tile(16, 16, 8, 1)]},
}


def candidates(kernel: str, channels: int, size: int, arch: int = 90) -> list[Tile]:
    """The tiles of a kernel for heads of so many numbers of so many bytes, the default first."""
    tables = HALF if size == 2 else WHOLE
    tiles = tables[kernel][max(64, triton.next_power_of_2(channels))]
    if shared_memory_limit(arch) > LITTLE:
        return tiles
    return [_tile(min(tile["BM"], 64), min(tile["BN"], 32), tile["num_warps"], 1) for tile in tiles[:1]]


def band_tile(kernel: str, channels: int, size: int, device: torch.device) -> Tile:
    """The default tile, for a device."""
    return candidates(kernel, channels, size, architecture(device))[0]
