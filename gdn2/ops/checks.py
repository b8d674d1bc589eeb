"""The shape contract that every backend of the operator shares, checked once at its door.

Letters: B batch, T tokens, H heads, K key dim (d_k), V value dim (d_v), N sequences.
"""

from __future__ import annotations

import math
import os
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

LOOK_AT_VALUES = os.environ.get("GDN2_CHECK_INPUTS") == "1"  # also on devices where that means waiting


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
    """Check that the inputs of the operator fit together, and read the offsets of packed sequences.

    The values of g are checked where that costs little: on the CPU, or on every device if GDN2_CHECK_INPUTS=1.

    Args:
        q: queries [B, T, H, K].
        k: keys [B, T, H, K].
        v: values [B, T, H, V].
        g: log-decay [B, T, H, K].
        b: erase gates [B, T, H, K].
        w: write gates [B, T, H, V].
        initial_state: [N, H, K, V], or None.
        cu_seqlens: offsets [N + 1] of packed sequences, or None.

    Returns:
        The offsets as integers, or None where sequences are not packed.

    Raises:
        ValueError: something does not fit; the message names the argument and what it has.
    """
    offsets = None
    if cu_seqlens is not None and q.ndim == 4:  # other ranks are refused below
        offsets = _read_offsets(cu_seqlens, q.shape[0], q.shape[1])
    _check_inputs(
        (q.shape, k.shape, v.shape, g.shape, b.shape, w.shape),
        (q.dtype, k.dtype, v.dtype, g.dtype, b.dtype, w.dtype),
        (q.device, k.device, v.device, g.device, b.device, w.device),
        None if initial_state is None else (initial_state.shape, initial_state.device),
        None if offsets is None else len(offsets) - 1,
    )
    if (LOOK_AT_VALUES or g.device.type == "cpu") and g.numel():
        most = g.detach().max().item()  # the number itself: to ask a tensor for its truth takes three times as long
        if most > 0 or (math.isnan(most) and bool((g > 0).any())):  # a NaN hides what is beside it
            raise ValueError(f"g must be a log-decay <= 0 everywhere, got a maximum of {most:.4g}")
    return offsets


@lru_cache(maxsize=1024)  # decoding asks the same thing every token and layer
def _check_inputs(
    shapes: tuple[torch.Size, ...],
    dtypes: tuple[torch.dtype, ...],
    devices: tuple[torch.device, ...],
    state: tuple[torch.Size, torch.device] | None,
    num_packed: int | None,
) -> None:
    for name, shape, dtype, device in zip("qkvgbw", shapes, dtypes, devices, strict=True):
        if len(shape) != 4:
            raise ValueError(f"{name} must have 4 dimensions [B, T, H, d], got {list(shape)}")
        if not dtype.is_floating_point:
            raise ValueError(f"{name} must be a floating-point tensor, got {dtype}")
        if device != devices[0]:
            raise ValueError(f"{name} is on {device} but q is on {devices[0]}; move them to one device")
    q, k, v, g, b, w = shapes
    for name, shape in (("k", k), ("g", g), ("b", b)):
        _expect(shape, name, ("B", "T", "H", "d_k"), tuple(q))
    for name, shape in (("v", v), ("w", w)):
        _expect(shape, name, ("B", "T", "H", "d_v"), (*q[:3], v[-1]))
    if state is not None:
        N = q[0] if num_packed is None else num_packed
        _expect(state[0], "initial_state", ("N", "H", "d_k", "d_v"), (N, *q[2:], v[-1]))
        if state[1] != devices[0]:
            raise ValueError(f"initial_state is on {state[1]} but q is on {devices[0]}")


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
