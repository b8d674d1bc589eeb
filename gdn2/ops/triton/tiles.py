"""Tile sizes of every kernel: the few that are considered, and the choice among them.

A tile is a dict of launch options (`num_warps`, `num_stages`) and block sizes. The first one that fits a shape is its
default; `tuning.py` measures the others on a GPU, `choice.py` knows which was best.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from gdn2.ops.triton.layout import padded_key_dim

Tile = dict[str, int]

CHUNK_SIZE = {"bf16": 64, "tf32": 32, "tf32x3": 32}
MAX_RANGE = {"bf16": -120.0, "tf32": -40.0, "tf32x3": -40.0}  # nats a chunk may lose before it goes by levels
PRECISION = {torch.bfloat16: "bf16", torch.float16: "tf32", torch.float32: "tf32x3"}

CANDIDATES: dict[str, list[Tile]] = {
    "prepare": [
        {"BK": 32, "BN": 128, "BT": 64, "num_warps": 4, "num_stages": 2},
        {"BK": 32, "BN": 128, "BT": 64, "num_warps": 4, "num_stages": 2, "maxnreg": 168},
        {"BK": 32, "BN": 64, "BT": 64, "num_warps": 4, "num_stages": 2, "maxnreg": 168},
    ],
    "prepare_by_level": [{"BK": 32, "BN": 64, "BT": 64, "num_warps": 8, "num_stages": 1}],
    "prepare_backward": [
        {"BK": 32, "BN": 128, "BT": 64, "num_warps": 4, "num_stages": 2},
        {"BK": 32, "BN": 64, "BT": 64, "num_warps": 4, "num_stages": 2},
    ],
    "prepare_backward_by_level": [{"BK": 32, "BN": 64, "BT": 64, "num_warps": 8, "num_stages": 1}],
    "scan_output": [
        {"BV": 16, "num_warps": 4, "num_stages": 4},
        {"BV": 16, "num_warps": 4, "num_stages": 3},
    ],
    "scan_output_wide": [
        {"BV": 64, "num_warps": 4, "num_stages": 3},
        {"BV": 64, "num_warps": 8, "num_stages": 2},
        {"BV": 32, "num_warps": 4, "num_stages": 3},
    ],
    "scan_both_ways": [
        {"BV": 32, "num_warps": 4, "num_stages": 4},
        {"BV": 16, "num_warps": 4, "num_stages": 3},
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
    "recurrent_fresh": [{"BV": 16, "num_warps": 2, "num_stages": 1}],  # without a state before
}


@dataclass(frozen=True)
class Special:
    """Candidates instead of those above, for some architectures, precisions, padded key and value dims (None: all)."""

    kernel: str
    tiles: tuple[Tile, ...]
    archs: tuple[int, ...] = (80, 90, 100)
    precisions: tuple[str, ...] = ("bf16", "tf32", "tf32x3")
    key_dims: tuple[int, ...] = (16, 32, 64, 128, 256)
    value_dims: tuple[int, ...] | None = None

    def fits(self, kernel: str, KP: int, VP: int, precision: str, family: int) -> bool:
        """Whether these are the candidates of that case; `family` is one of the architectures 80, 90 and 100."""
        sizes = KP in self.key_dims and (self.value_dims is None or VP in self.value_dims)
        return kernel == self.kernel and family in self.archs and precision in self.precisions and sizes


def _tile(num_warps: int, num_stages: int, **blocks: int) -> Tile:
    return {**blocks, "num_warps": num_warps, "num_stages": num_stages}


# Where the tiles above spill (`python -m gdn2.ops.triton.aot --all`); the first that fits a case counts. Before sm_90
# operands need registers, as in three-part products everywhere.
BF16, HALF, THREE = ("bf16",), ("bf16", "tf32"), ("tf32x3",)
PREPARE = ("prepare", "prepare_by_level", "prepare_backward", "prepare_backward_by_level")
SCANS = ("scan_output", "scan_output_wide", "scan_both_ways")
_SMALLEST = (_tile(8, 1, BK=16, BN=32, BT=16), _tile(4, 1, BK=16, BN=16, BT=16))
_SMALL = (_tile(8, 1, BK=16, BN=32, BT=32),)
_MIDDLE = (_tile(8, 1, BK=32, BN=64, BT=32),)
SPECIALS = (
    *(Special(kernel, _SMALLEST, precisions=THREE, key_dims=(16, 32)) for kernel in PREPARE),
    *(Special(kernel, _SMALL, precisions=THREE) for kernel in PREPARE),
    Special("prepare", _MIDDLE, (80,), HALF, (256,)),
    Special("prepare", _MIDDLE, (80,), HALF, value_dims=(256,)),
    Special("prepare_backward_by_level", _SMALL, (80,), BF16, (256,)),
    Special("prepare_backward_by_level", _SMALLEST, (80, 100), ("tf32",), (16, 32)),
    Special("prepare_backward_by_level", _SMALL, (80, 100), ("tf32",)),
    *(Special(kernel, _MIDDLE, (80,), HALF) for kernel in PREPARE[1:]),
    Special("prepare_backward", (_tile(4, 2, BK=32, BN=64, BT=64),), (90,), BF16, (256,)),
    *(Special(kernel, _MIDDLE, (100,), ("tf32",)) for kernel in PREPARE[1:]),
    Special("prepare", (_tile(8, 1, BK=32, BN=64, BT=64),), (100,), BF16, (256,)),
    Special("scan_both_ways", (_tile(8, 1, BV=16, BJ=16),), (80,), THREE, (256,)),
    *(Special(kernel, (_tile(8, 1, BV=16, BJ=32),), precisions=THREE, key_dims=(256,)) for kernel in SCANS),
    Special("scan_output", (_tile(4, 3, BV=16),), (80,), BF16),
    Special("scan_output", (_tile(8, 1, BV=16),), precisions=("tf32", "tf32x3"), key_dims=(128, 256)),
    Special("scan_output_wide", (_tile(8, 1, BV=32),), (80, 90), BF16, (256,)),
    Special("scan_output_wide", (_tile(8, 2, BV=64), _tile(4, 3, BV=32)), (80,), BF16),
    Special("scan_output_wide", (_tile(8, 1, BV=32), _tile(8, 1, BV=16)), precisions=("tf32",), key_dims=(128,)),
    Special("scan_output_wide", (_tile(8, 1, BV=16),), precisions=("tf32",), key_dims=(256,)),
    Special("scan_output_wide", (_tile(8, 1, BV=16),), precisions=THREE, key_dims=(128,)),
    Special("scan_output_wide", (_tile(8, 2, BV=16),), (80,), THREE),
    Special("scan_output_wide", (_tile(8, 1, BV=32),), precisions=THREE),
    Special("scan_both_ways", (_tile(8, 1, BV=16),), precisions=THREE, key_dims=(128,)),
    Special("scan_both_ways", (_tile(8, 1, BV=16, BJ=32),), (80,), ("tf32",), (256,)),
    Special("scan_both_ways", (_tile(8, 1, BV=16), _tile(4, 1, BV=16)), (80,), BF16, (256,)),
    Special("scan_both_ways", (_tile(4, 1, BV=16), _tile(8, 1, BV=16)), (80,), ("tf32",)),
    Special("scan_both_ways", (_tile(8, 1, BV=16), _tile(4, 1, BV=16)), (90,), ("tf32",), (128, 256)),
    # Gradients: head sizes with d_k other than d_v and the smallest ones first.
    Special("value_gradients", (_tile(8, 1, BK=64, BV=32),), (90,), BF16, (64,), (128,)),
    Special("value_gradients", (_tile(8, 1, BK=64, BV=64), _tile(8, 1, BK=64, BV=128)), (90,), BF16, (128,), (256,)),
    Special("value_gradients", (_tile(8, 1, BK=64, BV=128),), (90,), BF16, (256,), (128,)),
    Special("value_gradients", (_tile(8, 1, BK=32, BV=64),), (90,), ("tf32",), (64,), (128,)),
    Special("value_gradients", (_tile(8, 1, BK=32, BV=16),), (80,), THREE, (128,), (64,)),
    Special("value_gradients", (_tile(8, 1, BK=32, BV=32),), (90,), THREE, (16, 32)),
    Special("value_gradients", (_tile(8, 1, BK=32, BV=32), _tile(8, 1, BK=32, BV=16)), (80,), THREE),
    Special("value_gradients", (_tile(8, 1, BK=32, BV=16), _tile(8, 1, BK=32, BV=32)), precisions=THREE),
    Special("value_gradients", (_tile(8, 1, BK=64, BV=32), _tile(8, 1, BK=32, BV=64)), (90, 100), ("tf32",)),
    Special("value_gradients", (_tile(8, 2, BK=64, BV=32),), (80,)),
    Special("value_gradients", (_tile(8, 2, BK=64, BV=64), _tile(8, 1, BK=64, BV=128)), (90,), BF16, (256,)),
    Special("key_gradients", (_tile(8, 2, BK=32, BV=32),), (80,), BF16, (128,), (64,)),
    Special("key_gradients", (_tile(8, 1, BK=32, BV=32),), precisions=("tf32",), key_dims=(128,), value_dims=(64,)),
    Special("key_gradients", (_tile(8, 1, BK=16, BV=16),), (90,), THREE, (16, 32)),
    Special("key_gradients", (_tile(8, 1, BK=16, BV=64), _tile(8, 1, BK=16, BV=32)), (80,), THREE),
    Special("key_gradients", (_tile(8, 1, BK=16, BV=32), _tile(8, 1, BK=16, BV=64)), (90, 100), THREE),
    Special("key_gradients", (_tile(8, 2, BK=32, BV=32), _tile(8, 2, BK=32, BV=64)), (80,), BF16, (64,)),
    Special("key_gradients", (_tile(8, 2, BK=32, BV=32),), precisions=("tf32",), key_dims=(64,)),
    Special("key_gradients", (_tile(8, 2, BK=32, BV=64),), (80,)),
    Special("key_gradients", (_tile(8, 1, BK=32, BV=32),), (90,), BF16, (32,), (32,)),
    Special("key_gradients", (_tile(8, 1, BK=32, BV=64), _tile(8, 2, BK=64, BV=64)), (90,), BF16, (64,)),
    Special("key_gradients", (_tile(8, 1, BK=32, BV=64),), (90,), BF16, (32,)),
    Special("key_gradients", (_tile(8, 1, BK=32, BV=64),), (90,), BF16, (128,), (64,)),
    Special("key_gradients", (_tile(2, 1, BK=16, BV=32),), (90,), BF16, (16,)),
    Special("key_gradients_by_level", (_tile(8, 1, BK=16, BV=32),), precisions=THREE),
    Special("recurrent", (_tile(2, 1, BV=32), _tile(2, 1, BV=16)), key_dims=(256,)),
    Special("recurrent_fresh", (_tile(1, 1, BV=16),), key_dims=(16, 32, 64)),
)
SPILLS: dict[tuple[str, int, str, int], int] = {
    ("scan_output", 128, "tf32x3", 90): 16,
    ("scan_output_wide", 128, "tf32x3", 90): 16,
}  # most bytes of default tiles that spill, for any d_v: kernel, padded d_k, precision, architecture; Triton 3.9.0


def shared_memory_limit(arch: int) -> int:
    """Bytes of shared memory that one program can have on an architecture (compute capability x 10)."""
    return 1024 * {80: 163, 87: 163, 90: 227, 100: 227, 103: 227, 110: 227}.get(arch, 99)


def allowed_spill(kernel: str, K: int, precision: str, arch: int) -> int:
    """Bytes that the default tile is known to spill: none, but for what docs/kernels.md names."""
    return SPILLS.get((kernel, padded_key_dim(K), precision, arch), 0)


def tiles_for(kernel: str, KP: int, VP: int, precision: str, arch: int = 90) -> list[Tile]:
    """The candidates of a kernel cut to padded head sizes, a precision and an architecture (compute capability x 10),
    without repeats; the default first."""
    family = 80 if arch < 90 or arch >= 120 else 90 if arch < 100 else 100  # how products get their operands
    candidates: Iterable[Tile] = CANDIDATES[kernel]
    for special in SPECIALS:
        if special.fits(kernel, KP, VP, precision, family):
            candidates = special.tiles
            break
    tiles: list[Tile] = []
    for candidate in candidates:
        tile, whole = dict(candidate), True
        for name, limits in (("BK", (KP,)), ("BT", (KP,)), ("BV", (VP,)), ("BN", (KP, VP))):
            while name in tile and any(limit % tile[name] for limit in limits):
                tile[name], whole = tile[name] // 2, False
        if kernel.startswith("scan") and (precision != "bf16" or KP > 128):
            tile["num_stages"] = 2 if KP <= 64 else 1  # a stage holds KP x KP numbers in shared memory
        elif kernel.startswith("scan") and shared_memory_limit(arch) < 100 * 1024:
            tile["num_stages"] = min(tile["num_stages"], 2 if kernel == "scan_both_ways" else 1)
        narrow = min(tile.get("BK", 64), tile.get("BV", 64)) < 64 and not whole
        if kernel in ("value_gradients", "key_gradients") and family == 90 and precision == "bf16" and narrow:
            tile["num_warps"] = 2  # no wgmma, where nobody looked: see "A compiler's fault" in docs/kernels.md
        if tile not in tiles:
            tiles.append(tile)
    return tiles
