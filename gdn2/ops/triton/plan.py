"""What calls of one kind share: sizes, compile-time arguments, tiles and compiled kernels.

A plan belongs to dtypes, head sizes and a device, not to lengths: an evaluation with three hundred prompt lengths uses
one plan, and compiles each kernel once.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gdn2.ops.triton.backward import key_gradients_kernel, value_gradients_kernel
from gdn2.ops.triton.choice import tile_for
from gdn2.ops.triton.decay import LOG2_E
from gdn2.ops.triton.launch import ALIGNMENT, Launcher
from gdn2.ops.triton.layout import MAX_KEY_DIM, padded_key_dim, padded_value_dim
from gdn2.ops.triton.prepare import prepare_kernel
from gdn2.ops.triton.recurrent import recurrent_kernel
from gdn2.ops.triton.scan import scan_kernel
from gdn2.ops.triton.tiles import CHUNK_SIZE, MAX_RANGE, PRECISION, Tile

MAX_PROGRAMS = 2**31 - 1  # of a launch along its first axis, the only one in use

KERNELS = {
    "prepare": prepare_kernel,
    "prepare_by_level": prepare_kernel,
    "prepare_backward": prepare_kernel,
    "prepare_backward_by_level": prepare_kernel,
    "scan_output": scan_kernel,
    "scan_output_wide": scan_kernel,
    "scan_both_ways": scan_kernel,
    "value_gradients": value_gradients_kernel,
    "key_gradients": key_gradients_kernel,
    "key_gradients_by_level": key_gradients_kernel,
    "recurrent": recurrent_kernel,
    "recurrent_fresh": recurrent_kernel,
}


def plan_of(q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor, w: Tensor) -> Plan:
    """The plan of these inputs.

    Raises:
        ValueError: d_k above 256, or dtypes other than float32, bfloat16 and float16.
    """
    dtypes = (q.dtype, k.dtype, v.dtype, g.dtype, b.dtype, w.dtype)
    return _plan(q.shape[-1], v.shape[-1], dtypes, q.device)


@lru_cache(maxsize=256)
def _plan(K: int, V: int, dtypes: tuple[torch.dtype, ...], device: torch.device) -> Plan:
    for name, dtype in zip(("q", "k", "v", "g", "b", "w"), dtypes, strict=True):
        if dtype not in PRECISION:
            raise ValueError(f"the triton backend takes float32, bfloat16 and float16, got {name} in {dtype}")
    if not 1 <= K <= MAX_KEY_DIM:
        raise ValueError(f"the triton backend takes d_k from 1 to {MAX_KEY_DIM}, got q with d_k = {K}")
    return Plan(K, V, PRECISION[dtypes[2]], device)


class Plan:
    """Letters as in gdn2/README.md; KP, VP are K and V padded for tiles, C tokens are a chunk.

    Attributes:
        precision: of matrix products, "bf16", "tf32" or "tf32x3" (decay.py).
        scratch_dtype: of the tiles between kernels.
    """

    def __init__(self, K: int, V: int, precision: str, device: torch.device) -> None:
        self.K, self.V, self.precision, self.device = K, V, precision, device
        self.KP, self.VP, self.C = padded_key_dim(K), padded_value_dim(V), CHUNK_SIZE[precision]
        self.scratch_dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.tiles: dict[str, Tile] = {}
        self.launchers: dict[Hashable, tuple[Launcher, int]] = {}

    def tile(self, name: str) -> Tile:
        if name not in self.tiles:
            self.tiles[name] = tile_for(name, self.KP, self.VP, self.precision, self.device)
        return self.tiles[name]

    def launch(self, name: str, slots: int, *arguments: Any, **flags: bool) -> None:
        """Run a kernel of KERNELS over `slots`: chunks, or sequences, times heads.

        `flags` are compile-time arguments that say which arguments are None.
        """
        key = (name, *flags.values())
        if key not in self.launchers:
            tile = self.tile(name)
            launcher = Launcher(KERNELS[name], self.constants(name, tile) | flags, tile)
            self.launchers[key] = (launcher, self.blocks(name, tile))
        launcher, blocks = self.launchers[key]
        if slots * blocks > MAX_PROGRAMS:
            raise ValueError(
                f"{slots * blocks} programs are more than the {MAX_PROGRAMS} of one launch: cut the batch into parts"
            )
        launcher((slots * blocks, 1, 1), *arguments)

    def constants(self, name: str, tile: Tile) -> dict[str, Any]:
        """Every compile-time argument that the kernel `name` could have, but for tile sizes and flags."""
        of_inverse = "tf32" if self.precision == "bf16" else "tf32x3"  # M is rounded to bfloat16 behind it
        constants = {
            "K": self.K, "V": self.V, "KP": self.KP, "VP": self.VP, "C": self.C, "LOG_C": self.C.bit_length() - 1,
            "KB": min(self.KP, 128), "MAX_RANGE": MAX_RANGE[self.precision] * LOG2_E.value, "PRECISION": self.precision,
            "OF_INVERSE": of_inverse,
            "BY_LEVEL": name.endswith("by_level"), "FOR_BACKWARD": "backward" in name,
            "BOTH_WAYS": name.endswith("both_ways"), "WITH_OUTPUT": name.startswith("scan_output"),
            "STAGES": tile["num_stages"], "BJ": 0,
        }  # fmt: skip
        return constants | {"BLOCKS": self.blocks(name, tile)}

    def blocks(self, name: str, tile: Tile) -> int:
        """Programs of a kernel that share one chunk or sequence of a head."""
        if name.startswith("key_gradients"):
            return self.KP // tile["BK"]
        if name.startswith("scan"):
            return self.VP // tile["BV"]
        return -(-self.V // tile["BV"]) if name.startswith("recurrent") else 1

    def empty(self, slots: int, size: int, dtype: torch.dtype | None = None) -> Tensor:
        """Scratch memory of `slots` (chunks times heads) tiles of `size` numbers."""
        return torch.empty(slots * size, dtype=dtype or self.scratch_dtype, device=self.device)

    def empty_state(self, N: int, H: int) -> Tensor:
        return torch.empty(N, H, self.K, self.V, dtype=torch.float32, device=self.device)


class Call(NamedTuple):
    """The contiguous, aligned inputs of one call, [B, T, H, d], and its plan."""

    q: Tensor
    k: Tensor
    v: Tensor
    g: Tensor
    b: Tensor
    w: Tensor
    scale: float
    plan: Plan

    @property
    def H(self) -> int:
        return self.q.shape[2]


def launchable(x: Tensor) -> Tensor:
    """The same numbers contiguous and at an aligned address, copied if need be."""
    x = x.contiguous()
    return x if x.data_ptr() % ALIGNMENT == 0 else x.clone()
