"""The tiles of attention over runs of tokens: a few candidates for each kernel and head, the default first.

`python benchmarks/banded.py` measures all of them on a GPU; `python -m gdn2.ops.triton.aot --bands` compiles them.
"""

from __future__ import annotations

import torch
import triton

from gdn2.ops.triton.choice import architecture
from gdn2.ops.triton.tiles import Tile

FORWARD, OF_QUERIES, OF_KEYS = "forward", "of_queries", "of_keys"
Table = dict[str, dict[int, list[Tile]]]
"""The candidates of a kernel by the padded channels of a head."""


def _tile(BM: int, BN: int, num_warps: int, num_stages: int) -> Tile:
    return {"BM": BM, "BN": BN, "num_warps": num_warps, "num_stages": num_stages}


# What some of the others spill they spill outside their loops.
HALF: Table = {
    FORWARD: {
        64: [_tile(64, 64, 4, 3), _tile(128, 64, 4, 3), _tile(128, 128, 8, 2)],
        128: [_tile(128, 64, 8, 3), _tile(128, 128, 8, 2), _tile(64, 64, 4, 3), _tile(64, 64, 4, 2)],
        256: [_tile(64, 64, 8, 1), _tile(128, 64, 8, 1), _tile(64, 32, 4, 2)],
    },
    OF_QUERIES: {
        64: [_tile(128, 64, 8, 2), _tile(64, 64, 4, 2)],
        128: [_tile(64, 64, 4, 2), _tile(128, 64, 8, 2), _tile(128, 32, 8, 3)],
        256: [_tile(32, 32, 4, 1), _tile(64, 32, 8, 1)],
    },
    OF_KEYS: {
        64: [_tile(64, 128, 8, 2), _tile(64, 64, 4, 2)],
        128: [_tile(32, 128, 8, 3), _tile(64, 128, 8, 2), _tile(64, 64, 4, 2), _tile(64, 64, 8, 2)],
        256: [_tile(16, 32, 4, 1), _tile(32, 64, 8, 1)],
    },
}  # inputs of 16 bits, on chips whose products read shared memory
HALF_OF_REGISTERS: Table = {
    FORWARD: {
        64: [_tile(128, 64, 8, 3), _tile(64, 64, 4, 3)],
        128: [_tile(128, 32, 8, 3), _tile(64, 32, 4, 3)],
        256: [_tile(64, 32, 8, 2)],
    },
    OF_QUERIES: {
        64: [_tile(128, 64, 8, 2)],
        128: [_tile(128, 32, 8, 2), _tile(64, 32, 4, 2)],
        256: [_tile(32, 32, 4, 1), _tile(64, 32, 8, 1)],
    },
    OF_KEYS: {
        64: [_tile(64, 128, 8, 2)],
        128: [_tile(32, 64, 8, 2), _tile(32, 64, 4, 2)],
        256: [_tile(16, 64, 8, 1), _tile(16, 32, 4, 1)],
    },
}  # inputs of 16 bits, on chips whose products read registers; each fits into 99 kB of shared memory
WHOLE: Table = {
    FORWARD: {64: [_tile(32, 32, 4, 1)], 128: [_tile(32, 32, 8, 1)], 256: [_tile(16, 16, 8, 1)]},
    OF_QUERIES: {64: [_tile(32, 32, 4, 1)], 128: [_tile(32, 16, 8, 1)], 256: [_tile(16, 16, 8, 1)]},
    OF_KEYS: {64: [_tile(32, 32, 4, 1)], 128: [_tile(16, 32, 8, 1)], 256: [_tile(16, 16, 8, 1)]},
}  # float32, whose products are three each


def candidates(kernel: str, channels: int, size: int, arch: int = 90) -> list[Tile]:
    """The tiles of a kernel for heads of so many numbers of so many bytes, the default first."""
    half = HALF if 90 <= arch < 120 else HALF_OF_REGISTERS
    table = WHOLE if size == 4 else half
    return table[kernel][max(64, triton.next_power_of_2(channels))]


def band_tile(kernel: str, channels: int, size: int, device: torch.device) -> Tile:
    """The default tile, for a device."""
    return candidates(kernel, channels, size, architecture(device))[0]
