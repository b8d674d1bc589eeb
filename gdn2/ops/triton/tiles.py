"""Tile sizes of every variant: the few that are considered for a shape, the default first.

A tile is a dict of compiler options (`num_warps`, `num_stages`, `maxnreg`), block sizes, and for `prepare` whether L, M
and P are kept in registers (`KEPT`). The first one that fits a shape is its default; `tuning.py` measures the others on
a GPU, and `choice.py` reads which one was the fastest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from gdn2.ops.triton.layout import padded_key_dim
from gdn2.ops.triton.variants import (
    KEY_GRADIENTS,
    KEY_GRADIENTS_BY_LEVEL,
    PREPARE,
    PREPARE_BACKWARD,
    PREPARE_BACKWARD_BY_LEVEL,
    PREPARE_BY_LEVEL,
    RECURRENT,
    RECURRENT_FRESH,
    SCAN_BOTH_WAYS,
    SCAN_OUTPUT,
    SCAN_OUTPUT_WIDE,
    SCAN_WRITES,
    SCAN_WRITES_WIDE,
    VALUE_GRADIENTS,
    Variant,
)

Tile = dict[str, int]

CHUNK_SIZE = {"bf16": 64, "tf32": 32, "tf32x3": 32}
MAX_RANGE = {"bf16": -120.0, "tf32": -40.0, "tf32x3": -40.0}  # nats that a chunk may decay before it goes by levels
PRECISION = {torch.bfloat16: "bf16", torch.float16: "tf32", torch.float32: "tf32x3"}

CANDIDATES: dict[Variant, list[Tile]] = {
    PREPARE: [
        {"BK": 32, "BN": 128, "BT": 64, "num_warps": 4, "num_stages": 2},
        {"BK": 32, "BN": 128, "BT": 64, "num_warps": 4, "num_stages": 2, "maxnreg": 168},
        {"BK": 32, "BN": 64, "BT": 64, "num_warps": 4, "num_stages": 2, "maxnreg": 168},
    ],
    PREPARE_BY_LEVEL: [{"BK": 32, "BN": 64, "BT": 64, "num_warps": 8, "num_stages": 1}],
    PREPARE_BACKWARD: [
        {"BK": 32, "BN": 128, "BT": 64, "num_warps": 4, "num_stages": 2},
        {"BK": 32, "BN": 64, "BT": 64, "num_warps": 4, "num_stages": 2},
    ],
    PREPARE_BACKWARD_BY_LEVEL: [{"BK": 32, "BN": 64, "BT": 64, "num_warps": 8, "num_stages": 1}],
    SCAN_OUTPUT: [
        {"BV": 16, "num_warps": 4, "num_stages": 4},
        {"BV": 16, "num_warps": 4, "num_stages": 3},
    ],
    SCAN_OUTPUT_WIDE: [
        {"BV": 64, "num_warps": 4, "num_stages": 3},
        {"BV": 64, "num_warps": 8, "num_stages": 2},
        {"BV": 32, "num_warps": 4, "num_stages": 3},
    ],
    SCAN_WRITES: [{"BV": 16, "num_warps": 4, "num_stages": 3}],
    SCAN_WRITES_WIDE: [{"BV": 64, "num_warps": 4, "num_stages": 3}],
    SCAN_BOTH_WAYS: [
        {"BV": 32, "num_warps": 4, "num_stages": 4},
        {"BV": 16, "num_warps": 4, "num_stages": 3},
    ],
    VALUE_GRADIENTS: [
        {"BK": 64, "BV": 128, "num_warps": 8, "num_stages": 1},
        {"BK": 64, "BV": 64, "num_warps": 8, "num_stages": 2},
    ],
    KEY_GRADIENTS: [
        {"BK": 64, "BV": 64, "num_warps": 8, "num_stages": 2},
    ],
    KEY_GRADIENTS_BY_LEVEL: [{"BK": 16, "BV": 64, "num_warps": 8, "num_stages": 1}],
    RECURRENT: [
        {"BV": 32, "num_warps": 1, "num_stages": 1},
        {"BV": 32, "num_warps": 2, "num_stages": 1},
    ],
    RECURRENT_FRESH: [{"BV": 16, "num_warps": 2, "num_stages": 1}],
}


@dataclass(frozen=True)
class Special:
    """Candidates that replace those above in some cases.

    Attributes:
        variant: whose candidates they are.
        tiles: the candidates, the default first.
        archs: of the architectures 80, 90 and 100.
        precisions: of matrix products.
        key_dims: padded key dims.
        value_dims: padded value dims; None: all.
    """

    variant: Variant
    tiles: tuple[Tile, ...]
    archs: tuple[int, ...] = (80, 90, 100)
    precisions: tuple[str, ...] = ("bf16", "tf32", "tf32x3")
    key_dims: tuple[int, ...] = (16, 32, 64, 128, 256)
    value_dims: tuple[int, ...] | None = None

    def fits(self, variant: Variant, KP: int, VP: int, precision: str, family: int) -> bool:
        """Whether these are the candidates of that case; `family` is one of the architectures 80, 90 and 100."""
        sizes = KP in self.key_dims and (self.value_dims is None or VP in self.value_dims)
        return variant == self.variant and family in self.archs and precision in self.precisions and sizes


def _tile(num_warps: int, num_stages: int, **blocks: int) -> Tile:
    return {**blocks, "num_warps": num_warps, "num_stages": num_stages}


# For cases in which the tiles above spill (`python -m gdn2.ops.triton.aot --all`); the first that fits a case is used.
# Before sm_90 the operands of products need registers, and in products of three parts they do everywhere.
BF16, HALF, THREE = ("bf16",), ("bf16", "tf32"), ("tf32x3",)
PREPARES = (PREPARE, PREPARE_BY_LEVEL, PREPARE_BACKWARD, PREPARE_BACKWARD_BY_LEVEL)
SCANS = (SCAN_OUTPUT, SCAN_OUTPUT_WIDE, SCAN_BOTH_WAYS)
_SMALLEST = (_tile(8, 1, BK=16, BN=32, BT=16), _tile(4, 1, BK=16, BN=16, BT=16))
_SMALL = (_tile(8, 1, BK=16, BN=32, BT=32),)
_MIDDLE = (_tile(8, 1, BK=32, BN=64, BT=32),)
_KEPT = {"BK": 32, "BN": 128, "BT": 64, "num_warps": 4, "num_stages": 2, "KEPT": 1}
SPECIALS = (
    # For speed, where it was measured. maxnreg lets three programs share a multiprocessor, and may spill a little.
    Special(PREPARE, (_KEPT | {"maxnreg": 168}, _KEPT), (90,), BF16, (64,), (64,)),
    Special(PREPARE, (_KEPT, _KEPT | {"maxnreg": 168}), (90,), BF16, (128,), (128,)),
    Special(PREPARE, (_KEPT | {"BN": 64}, _KEPT | {"BN": 64, "maxnreg": 168}), (90,), BF16, (256,), (256,)),
    Special(PREPARE_BACKWARD, (_KEPT,), (90,), BF16, (128,), (128,)),
    Special(SCAN_OUTPUT_WIDE, (_tile(4, 4, BV=32), _tile(4, 3, BV=64)), (90,), BF16, (64,), (64,)),
    *(Special(scan, (_tile(4, 2, BV=32),), key_dims=(256,)) for scan in (SCAN_WRITES, SCAN_WRITES_WIDE)),
    *(Special(variant, _SMALLEST, precisions=THREE, key_dims=(16, 32)) for variant in PREPARES),
    *(Special(variant, _SMALL, precisions=THREE) for variant in PREPARES),
    Special(PREPARE, _MIDDLE, (80,), HALF, (256,)),
    Special(PREPARE, _MIDDLE, (80,), HALF, value_dims=(256,)),
    Special(PREPARE_BACKWARD_BY_LEVEL, _SMALL, (80,), BF16, (256,)),
    Special(PREPARE_BACKWARD_BY_LEVEL, _SMALLEST, (80, 100), ("tf32",), (16, 32)),
    Special(PREPARE_BACKWARD_BY_LEVEL, _SMALL, (80, 100), ("tf32",)),
    *(Special(variant, _MIDDLE, (80,), HALF) for variant in PREPARES[1:]),
    Special(PREPARE_BACKWARD, (_tile(4, 2, BK=32, BN=64, BT=64),), (90,), BF16, (256,)),
    *(Special(variant, _MIDDLE, (100,), ("tf32",)) for variant in PREPARES[1:]),
    Special(PREPARE, (_tile(8, 1, BK=32, BN=64, BT=64),), (100,), BF16, (256,)),
    Special(SCAN_BOTH_WAYS, (_tile(8, 1, BV=16, BJ=16),), (80,), THREE, (256,)),
    *(Special(variant, (_tile(8, 1, BV=16, BJ=32),), precisions=THREE, key_dims=(256,)) for variant in SCANS),
    Special(SCAN_OUTPUT, (_tile(4, 3, BV=16),), (80,), BF16),
    Special(SCAN_OUTPUT, (_tile(8, 1, BV=16),), precisions=("tf32", "tf32x3"), key_dims=(128, 256)),
    Special(SCAN_OUTPUT_WIDE, (_tile(8, 1, BV=32),), (80, 90), BF16, (256,)),
    Special(SCAN_OUTPUT_WIDE, (_tile(8, 2, BV=64), _tile(4, 3, BV=32)), (80,), BF16),
    Special(SCAN_OUTPUT_WIDE, (_tile(8, 1, BV=32), _tile(8, 1, BV=16)), precisions=("tf32",), key_dims=(128,)),
    Special(SCAN_OUTPUT_WIDE, (_tile(8, 1, BV=16),), precisions=("tf32",), key_dims=(256,)),
    Special(SCAN_OUTPUT_WIDE, (_tile(8, 1, BV=16),), precisions=THREE, key_dims=(128,)),
    Special(SCAN_OUTPUT_WIDE, (_tile(8, 2, BV=16),), (80,), THREE),
    Special(SCAN_OUTPUT_WIDE, (_tile(8, 1, BV=32),), precisions=THREE),
    Special(SCAN_BOTH_WAYS, (_tile(8, 1, BV=16),), precisions=THREE, key_dims=(128,)),
    Special(SCAN_BOTH_WAYS, (_tile(8, 1, BV=16, BJ=32),), (80,), ("tf32",), (256,)),
    Special(SCAN_BOTH_WAYS, (_tile(8, 1, BV=16), _tile(4, 1, BV=16)), (80,), BF16, (256,)),
    Special(SCAN_BOTH_WAYS, (_tile(4, 1, BV=16), _tile(8, 1, BV=16)), (80,), ("tf32",)),
    Special(SCAN_BOTH_WAYS, (_tile(8, 1, BV=16), _tile(4, 1, BV=16)), (90,), ("tf32",), (128, 256)),
    # Gradients: head sizes whose d_k and d_v differ, and the smallest ones, come first.
    Special(VALUE_GRADIENTS, (_tile(8, 1, BK=64, BV=32),), (90,), BF16, (64,), (128,)),
    Special(VALUE_GRADIENTS, (_tile(8, 1, BK=64, BV=64), _tile(8, 1, BK=64, BV=128)), (90,), BF16, (128,), (256,)),
    Special(VALUE_GRADIENTS, (_tile(8, 1, BK=64, BV=128),), (90,), BF16, (256,), (128,)),
    Special(VALUE_GRADIENTS, (_tile(8, 1, BK=32, BV=64),), (90,), ("tf32",), (64,), (128,)),
    Special(VALUE_GRADIENTS, (_tile(8, 1, BK=32, BV=16),), (80,), THREE, (128,), (64,)),
    Special(VALUE_GRADIENTS, (_tile(8, 1, BK=32, BV=32),), (90,), THREE, (16, 32)),
    Special(VALUE_GRADIENTS, (_tile(8, 1, BK=32, BV=32), _tile(8, 1, BK=32, BV=16)), (80,), THREE),
    Special(VALUE_GRADIENTS, (_tile(8, 1, BK=32, BV=16), _tile(8, 1, BK=32, BV=32)), precisions=THREE),
    Special(VALUE_GRADIENTS, (_tile(8, 1, BK=64, BV=32), _tile(8, 1, BK=32, BV=64)), (90, 100), ("tf32",)),
    Special(VALUE_GRADIENTS, (_tile(8, 2, BK=64, BV=32),), (80,)),
    Special(VALUE_GRADIENTS, (_tile(8, 2, BK=64, BV=64), _tile(8, 1, BK=64, BV=128)), (90,), BF16, (256,)),
    Special(KEY_GRADIENTS, (_tile(8, 2, BK=32, BV=32),), (80,), BF16, (128,), (64,)),
    Special(KEY_GRADIENTS, (_tile(8, 1, BK=32, BV=32),), precisions=("tf32",), key_dims=(128,), value_dims=(64,)),
    Special(KEY_GRADIENTS, (_tile(8, 1, BK=16, BV=16),), (90,), THREE, (16, 32)),
    Special(KEY_GRADIENTS, (_tile(8, 1, BK=16, BV=64), _tile(8, 1, BK=16, BV=32)), (80,), THREE),
    Special(KEY_GRADIENTS, (_tile(8, 1, BK=16, BV=32), _tile(8, 1, BK=16, BV=64)), (90, 100), THREE),
    Special(KEY_GRADIENTS, (_tile(8, 2, BK=32, BV=32), _tile(8, 2, BK=32, BV=64)), (80,), BF16, (64,)),
    Special(KEY_GRADIENTS, (_tile(8, 2, BK=32, BV=32),), precisions=("tf32",), key_dims=(64,)),
    Special(KEY_GRADIENTS, (_tile(8, 2, BK=32, BV=64),), (80,)),
    Special(KEY_GRADIENTS, (_tile(8, 1, BK=32, BV=32),), (90,), BF16, (32,), (32,)),
    Special(KEY_GRADIENTS, (_tile(8, 1, BK=32, BV=64), _tile(8, 2, BK=64, BV=64)), (90,), BF16, (64,)),
    Special(KEY_GRADIENTS, (_tile(8, 1, BK=32, BV=64),), (90,), BF16, (32,)),
    Special(KEY_GRADIENTS, (_tile(8, 1, BK=32, BV=64),), (90,), BF16, (128,), (64,)),
    Special(KEY_GRADIENTS, (_tile(2, 1, BK=16, BV=32),), (90,), BF16, (16,)),
    Special(KEY_GRADIENTS_BY_LEVEL, (_tile(8, 1, BK=16, BV=32),), precisions=THREE),
    Special(RECURRENT, (_tile(2, 1, BV=32), _tile(2, 1, BV=16)), key_dims=(256,)),
    Special(RECURRENT_FRESH, (_tile(1, 1, BV=16),), key_dims=(16, 32, 64)),
)
SPILLS: dict[tuple[Variant, int, str, int], int] = {
    (SCAN_OUTPUT, 128, "tf32x3", 90): 16,
    (SCAN_OUTPUT_WIDE, 128, "tf32x3", 90): 16,
}  # most bytes that default tiles spill, for any d_v: variant, padded d_k, precision, architecture; Triton 3.9.0


def family_of(arch: int) -> int:
    """The one of 80, 90 and 100 that an architecture is like in the way in which products get their operands."""
    return 80 if arch < 90 or arch >= 120 else 90 if arch < 100 else 100


def shared_memory_limit(arch: int) -> int:
    """Bytes of shared memory that one program can have on an architecture (compute capability x 10)."""
    return 1024 * {80: 163, 87: 163, 90: 227, 100: 227, 103: 227, 110: 227}.get(arch, 99)


def allowed_spill(variant: Variant, K: int, precision: str, arch: int) -> int:
    """Bytes that the default tile is known to spill: none, except in the cases that docs/kernels.md names."""
    return SPILLS.get((variant, padded_key_dim(K), precision, arch), 0)


def tiles_for(variant: Variant, KP: int, VP: int, precision: str, arch: int = 90) -> list[Tile]:
    """The candidates of a variant, cut to padded head sizes and without repeats; the default first.

    Args:
        variant: whose tiles they are.
        KP: the padded key dim.
        VP: the padded value dim.
        precision: of matrix products, a key of CHUNK_SIZE.
        arch: compute capability x 10.
    """
    family = family_of(arch)
    candidates: Iterable[Tile] = CANDIDATES[variant]
    for special in SPECIALS:
        if special.fits(variant, KP, VP, precision, family):
            candidates = special.tiles
            break
    tiles: list[Tile] = []
    for candidate in candidates:
        tile, whole = dict(candidate), True
        for name, limits in (("BK", (KP,)), ("BT", (KP,)), ("BV", (VP,)), ("BN", (KP, VP))):
            while name in tile and any(limit % tile[name] for limit in limits):
                tile[name], whole = tile[name] // 2, False
        if variant.kernel == "scan" and (precision != "bf16" or KP > 128):
            tile["num_stages"] = 2 if KP <= 64 else 1  # a stage holds KP x KP numbers in shared memory
        elif variant.kernel == "scan" and shared_memory_limit(arch) < 100 * 1024:
            tile["num_stages"] = min(tile["num_stages"], 2 if variant.both_ways else 1)
        narrow = min(tile.get("BK", 64), tile.get("BV", 64)) < 64 and not whole
        if variant in (VALUE_GRADIENTS, KEY_GRADIENTS) and family == 90 and precision == "bf16" and narrow:
            tile["num_warps"] = (
                2  # no wgmma in tiles whose binaries nobody has read: see "A compiler's fault" in docs/kernels.md
            )
        if tile not in tiles:
            tiles.append(tile)
    return tiles
