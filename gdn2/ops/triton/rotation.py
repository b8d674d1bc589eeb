"""Rotary embedding of the heads of a run of tokens, and its gradient, which is the turn back, in one pass.

Letters: B rows, T tokens, H heads, D channels of a head, HALF pairs of them that turn, HP the same padded to a power of
two, RP the channels that stay, padded likewise, BH heads of a tile.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gdn2.ops.triton.banded import kind_of, strides_of, with_whole_heads
from gdn2.ops.triton.launch import launchable, launcher_of, on_device_of

HEADS = 8  # of a tile


def turn(x: Tensor, cos: Tensor, sin: Tensor, *, back: bool) -> Tensor:
    """As `gdn2.ops.rotation.turn`, without gradients; `back`: by the angles' negatives."""
    B, T, H, D = x.shape
    x, cos, sin = with_whole_heads(x), launchable(cos), launchable(sin)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    HALF = cos.shape[-1]
    rest = triton.next_power_of_2(D - 2 * HALF) if 2 * HALF < D else 0
    constants = {"D": D, "HALF": HALF, "HP": triton.next_power_of_2(HALF), "RP": rest, "BACK": back, "num_warps": 2,
                 "BH": min(HEADS, triton.next_power_of_2(H))}  # fmt: skip
    launch = launcher_of(turn_kernel, tuple(constants.items()), kind_of(x, cos, sin, y), x.device)
    with on_device_of(x):
        launch((T, B, 1), x, cos, sin, y, T, H, *strides_of(x))
    return y


@triton.jit(do_not_specialize=["T", "H", "row", "token", "head"])
def turn_kernel(
    p_x, p_cos, p_sin, p_y, T, H, row, token, head,
    D: tl.constexpr, HALF: tl.constexpr, HP: tl.constexpr, BH: tl.constexpr, RP: tl.constexpr, BACK: tl.constexpr,
):  # fmt: skip
    """One program for each token."""
    i_t, i_b = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    o_h, o_p = tl.arange(0, BH), tl.arange(0, HP)
    x_base, y_base = p_x + (i_b * row + i_t * token) * D, p_y + (i_b * T + i_t) * H * D
    angles, m_p = (i_b * T + i_t) * HALF + o_p, o_p < HALF
    b_cos = tl.load(p_cos + angles, mask=m_p, other=1.0)[None, :]
    b_sin = tl.load(p_sin + angles, mask=m_p, other=0.0)[None, :]
    if BACK:
        b_sin = -b_sin
    for h in range(0, H, BH):
        mask = (h + o_h < H)[:, None] & m_p[None, :]
        x_tile = (h + o_h)[:, None] * (head * D) + o_p[None, :]
        y_tile = (h + o_h)[:, None] * D + o_p[None, :]
        b_first = tl.load(x_base + x_tile, mask=mask, other=0.0).to(tl.float32)
        b_second = tl.load(x_base + HALF + x_tile, mask=mask, other=0.0).to(tl.float32)
        tl.store(y_base + y_tile, (b_first * b_cos - b_second * b_sin).to(p_y.dtype.element_ty), mask=mask)
        tl.store(y_base + HALF + y_tile, (b_first * b_sin + b_second * b_cos).to(p_y.dtype.element_ty), mask=mask)
        if RP > 0:
            o_r = 2 * HALF + tl.arange(0, RP)
            m_r = (h + o_h < H)[:, None] & (o_r < D)[None, :]
            b_rest = tl.load(x_base + (h + o_h)[:, None] * (head * D) + o_r[None, :], mask=m_r, other=0.0)
            tl.store(y_base + (h + o_h)[:, None] * D + o_r[None, :], b_rest, mask=m_r)
