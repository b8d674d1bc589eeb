"""The shape contract that every backend of the operator shares, checked once at its door.

Letters: B batch, T tokens, H heads, K key dim (d_k), V value dim (d_v), N sequences.
"""

from __future__ import annotations

import os
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

CHECK_VARIABLE = "GDN2_CHECK_INPUTS"


def check_inputs(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    b: Tensor,
    w: Tensor,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
) -> tuple[int, ...] | None:
    """The offsets of packed sequences; ValueError, naming the argument and its shape, unless the inputs fit together.

    The values of g are looked at where that costs little: on the CPU, or anywhere if GDN2_CHECK_INPUTS=1.
    """
    inputs = (q, k, v, g, b, w)
    _check_inputs(*[(x.shape, x.dtype, x.device) for x in inputs])
    offsets = None if cu_seqlens is None else _read_offsets(cu_seqlens, q.shape[0], q.shape[1])
    if initial_state is not None:
        N = q.shape[0] if offsets is None else len(offsets) - 1
        _expect(initial_state.shape, "initial_state", ("N", "H", "d_k", "d_v"), (N, *q.shape[2:], v.shape[-1]))
        if initial_state.device != q.device:
            raise ValueError(f"initial_state is on {initial_state.device} but q is on {q.device}")
    looked_at = g.device.type == "cpu" or os.environ.get(CHECK_VARIABLE) == "1"
    if looked_at and bool((g > 0).any()):
        raise ValueError(f"g must be a log-decay <= 0 everywhere, got a maximum of {g.max().item():.4g}")
    return offsets


@lru_cache(maxsize=1024)  # decoding asks the same thing every token and layer
def _check_inputs(*described: tuple[torch.Size, torch.dtype, torch.device]) -> None:
    named = dict(zip("qkvgbw", described, strict=True))
    for name, (shape, dtype, device) in named.items():
        if len(shape) != 4:
            raise ValueError(f"{name} must have 4 dimensions [B, T, H, d], got {list(shape)}")
        if not dtype.is_floating_point:
            raise ValueError(f"{name} must be a floating-point tensor, got {dtype}")
        if device != named["q"][2]:
            raise ValueError(f"{name} is on {device} but q is on {named['q'][2]}; move them to one device")
    keys = named["q"][0]
    values = (*keys[:3], named["v"][0][-1])
    for name in "kgb":
        _expect(named[name][0], name, ("B", "T", "H", "d_k"), tuple(keys))
    for name in "vw":
        _expect(named[name][0], name, ("B", "T", "H", "d_v"), values)


def _expect(got: torch.Size, name: str, letters: tuple[str, ...], shape: tuple[int, ...]) -> None:
    if got != shape:
        raise ValueError(f"{name} must be [{', '.join(letters)}] = {list(shape)}, got {list(got)}")


def _read_offsets(cu_seqlens: Tensor, B: int, T: int) -> tuple[int, ...]:
    if cu_seqlens.ndim != 1 or cu_seqlens.numel() < 2 or cu_seqlens.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            "cu_seqlens must be a 1-d int32 or int64 tensor of at least two offsets, "
            f"got {list(cu_seqlens.shape)} {cu_seqlens.dtype}"
        )
    if B != 1:
        raise ValueError(f"with cu_seqlens the sequences are packed in one row: B must be 1, got {B}")
    offsets = cu_seqlens.tolist()
    if offsets[0] != 0 or offsets[-1] != T:
        raise ValueError(f"cu_seqlens must start at 0 and end at T = {T}, got {offsets[0]} ... {offsets[-1]}")
    if any(left > right for left, right in pairwise(offsets)):
        raise ValueError(f"cu_seqlens must not go backwards, got {offsets}")
    return tuple(offsets)
