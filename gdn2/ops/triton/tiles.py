"""Tile sizes of every kernel: the few that are considered, and the choice among them.

A tile is a dict of launch options (`num_warps`, `num_stages`) and block sizes. The first one that fits a shape is its
default; `tuning.py` measures the others on a GPU and remembers the best.
"""

from __future__ import annotations

import torch

Tile = dict[str, int]

CHUNK_SIZE = {"bf16": 64, "tf32": 32, "tf32x3": 32}
MAX_RANGE = {"bf16": -120.0, "tf32": -40.0, "tf32x3": -40.0}  # nats a chunk may lose before it goes by levels
PRECISION = {torch.bfloat16: "bf16", torch.float16: "tf32", torch.float32: "tf32x3"}

CANDIDATES: dict[str, list[Tile]] = {
    "scores": [
        {"BK": 32, "num_warps": 4, "num_stages": 2},
        {"BK": 32, "num_warps": 4, "num_stages": 1},
        {"BK": 64, "num_warps": 8, "num_stages": 1},
    ],
    "scores_by_level": [{"BK": 32, "num_warps": 8, "num_stages": 1}],
    "invert": [
        {"num_warps": 2, "num_stages": 1},
        {"num_warps": 4, "num_stages": 1},
    ],
    "transition": [
        {"BN": 128, "BK": 64, "num_warps": 4, "num_stages": 1},
        {"BN": 64, "BK": 64, "num_warps": 4, "num_stages": 1},
    ],
    "transition_backward": [
        {"BN": 64, "BK": 64, "num_warps": 4, "num_stages": 1},
        {"BN": 128, "BK": 64, "num_warps": 4, "num_stages": 1},
    ],
    "scan": [
        {"BV": 16, "num_warps": 4, "num_stages": 4},
        {"BV": 32, "num_warps": 4, "num_stages": 3},
    ],
    "scan_both_ways": [
        {"BV": 32, "num_warps": 4, "num_stages": 4},
        {"BV": 16, "num_warps": 4, "num_stages": 3},
    ],
    "output": [
        {"BK": 64, "BV": 128, "num_warps": 4, "num_stages": 2},
        {"BK": 64, "BV": 64, "num_warps": 4, "num_stages": 2},
    ],
    "value_gradients": [
        {"BK": 64, "BV": 128, "num_warps": 8, "num_stages": 1},
        {"BK": 64, "BV": 64, "num_warps": 8, "num_stages": 2},
    ],
    "key_gradients": [
        {"BK": 64, "BV": 64, "num_warps": 8, "num_stages": 2},
    ],
    "key_gradients_by_level": [{"BK": 16, "BV": 64, "num_warps": 8, "num_stages": 1}],
    "recurrent": [
        {"BV": 32, "num_warps": 1, "num_stages": 1},
        {"BV": 32, "num_warps": 2, "num_stages": 1},
    ],
}


# Without wgmma, whose operands need no registers: smaller tiles, so that nothing spills.
CANDIDATES_BEFORE_SM90: dict[str, list[Tile]] = {
    "value_gradients": [{"BK": 64, "BV": 32, "num_warps": 8, "num_stages": 2}],
    "key_gradients": [{"BK": 32, "BV": 64, "num_warps": 8, "num_stages": 2}],
    "key_gradients_by_level": [{"BK": 16, "BV": 32, "num_warps": 8, "num_stages": 1}],
}


def tiles_for(kernel: str, KP: int, VP: int, precision: str, arch: int = 90) -> list[Tile]:
    """The candidates of a kernel cut to padded head sizes, a precision and an architecture (compute capability x 10),
    without repeats; the default first."""
    candidates = CANDIDATES_BEFORE_SM90.get(kernel) if arch < 90 else None
    tiles: list[Tile] = []
    for candidate in candidates or CANDIDATES[kernel]:
        tile = dict(candidate)
        for name, limits in (("BK", (KP,)), ("BV", (VP,)), ("BN", (KP, VP))):
            while name in tile and any(limit % tile[name] for limit in limits):
                tile[name] //= 2
        if kernel.startswith("scan") and (precision != "bf16" or KP > 128):
            tile["num_stages"] = 2 if KP <= 64 else 1  # a stage holds KP x KP numbers in shared memory
        if kernel in ("value_gradients", "key_gradients") and arch >= 90 and min(tile["BK"], tile["BV"]) < 64:
            tile["num_warps"] = 2  # no wgmma: see "A compiler's fault" in docs/kernels.md
        if tile not in tiles:
            tiles.append(tile)
    return tiles
