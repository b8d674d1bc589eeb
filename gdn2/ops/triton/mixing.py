"""Kernels between a mixer's projections and the operator: the short convolution, and the decay.

Each is one pass: the convolution with its state, its activation and the scaling of heads to unit length.

Letters: B rows, T tokens, C channels, H heads, D channels of a head, DP the same padded to a power of two, W taps, BT
tokens of a program.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gdn2.ops.triton.launch import is_aligned, launchable, launcher_of, on_device_of

MAX_HEAD = 1024  # channels of a head
TILE = 2048  # numbers of a program
Bounds = tuple[Tensor, Tensor]  # of each row the column of its first token and the one after its last, int64 [B] each


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, tail: Tensor, next_tail: Tensor, head_size: int,
    *, activate: bool, unit_length: bool, eps: float, bounds: Bounds | None,
) -> Tensor:  # fmt: skip
    """A causal depthwise convolution that continues from `tail`, with what follows it, without gradients.

    It computes in float32.

    Args:
        x: the inputs [B, T, C].
        weight: [C, 1, W].
        bias: [C]; None: no bias.
        tail: the W - 1 inputs before x, [B, W - 1, C]; it may be a view of some channels.
        next_tail: receives the W - 1 inputs before the next x; its shape and strides are those of `tail`, its memory is
            not.
        head_size: D, a divisor of C.
        activate: whether silu follows.
        unit_length: whether each head is then scaled to unit length.
        eps: is added to a head's squared length.
        bounds: the columns of each row that hold tokens; elsewhere x counts as 0. None: all columns.

    Returns:
        [B, T, C] in the dtype of x.
    """
    B, T, C = x.shape
    W, D = weight.shape[-1], head_size
    x, weight = launchable(x), launchable(weight)
    y = torch.empty_like(x)
    if not y.numel():
        next_tail.copy_(tail)
        return y
    DP = max(16, triton.next_power_of_2(D))
    BT = max(1, min(TILE // DP, triton.next_power_of_2(T)))
    constants = {"D": D, "DP": DP, "W": W, "BT": BT, "HAS_BIAS": bias is not None, "ACTIVATE": activate,
                 "UNIT": unit_length, "BOUNDED": bounds is not None}  # fmt: skip
    kind = (x.dtype, weight.dtype, tail.dtype, None if bias is None else bias.dtype, is_aligned(tail, next_tail))
    launch = launcher_of(convolution_kernel, (*constants.items(), ("num_warps", 4)), kind, x.device)
    first, end = bounds if bounds is not None else (None, None)
    with on_device_of(x):
        launch(
            (B * triton.cdiv(T, BT) * (C // D), 1, 1), x, weight, bias, tail, next_tail, y, first, end,
            T, C // D, tail.stride(0), tail.stride(1), eps,
        )  # fmt: skip
    return y


def decay(f: Tensor, A_log: Tensor, dt_bias: Tensor) -> Tensor:
    """The log-decay g = -exp(A_log) softplus(f + dt_bias) in float32, without gradients.

    Args:
        f: [B, T, C].
        A_log: [H], where H is a divisor of C: one number for each C / H channels.
        dt_bias: [C].

    Returns:
        [B, T, C].
    """
    B, T, C = f.shape
    f, A_log, dt_bias = launchable(f), launchable(A_log), launchable(dt_bias)
    g = torch.empty(B, T, C, dtype=torch.float32, device=f.device)
    if not g.numel():
        return g
    CP = min(triton.next_power_of_2(C), 1024)
    BN = max(1, min(TILE // CP, triton.next_power_of_2(B * T)))
    N, constants = B * T, {"C": C, "HEAD": C // len(A_log), "CP": CP, "BN": BN, "num_warps": 4}
    launch = launcher_of(decay_kernel, tuple(constants.items()), (f.dtype, A_log.dtype, dt_bias.dtype), f.device)
    with on_device_of(f):
        launch((triton.cdiv(N, BN) * triton.cdiv(C, CP), 1, 1), f, A_log, dt_bias, g, N)
    return g


@triton.jit(do_not_specialize=["T", "H", "tail_row", "tail_step", "eps"])
def convolution_kernel(
    p_x, p_weight, p_bias, p_tail, p_next, p_y, p_first, p_end, T, H, tail_row: tl.int64, tail_step, eps,
    D: tl.constexpr, DP: tl.constexpr, W: tl.constexpr, BT: tl.constexpr, HAS_BIAS: tl.constexpr,
    ACTIVATE: tl.constexpr, UNIT: tl.constexpr, BOUNDED: tl.constexpr,
):  # fmt: skip
    """One program for each row, head and BT tokens; that of the first tokens also writes the next tail."""
    i_h, i_block = tl.program_id(0) % H, tl.program_id(0) // H
    blocks = tl.cdiv(T, BT)
    i_b, i_t = (i_block // blocks).to(tl.int64), i_block % blocks
    o_t, o_d, step = tl.arange(0, BT), tl.arange(0, DP), H * D
    m_d = o_d < D
    first, end = 0, T
    if BOUNDED:
        first, end = tl.load(p_first + i_b).to(tl.int32), tl.load(p_end + i_b).to(tl.int32)
    p_x += i_b * T * step + i_h * D
    p_tail += i_b * tail_row + i_h * D
    p_weight += i_h * D * W
    p_tile = p_x + (i_t * BT).to(tl.int64) * step

    b_y = tl.zeros([BT, DP], dtype=tl.float32)
    if HAS_BIAS:
        b_y += tl.load(p_bias + i_h * D + o_d, mask=m_d, other=0.0).to(tl.float32)[None, :]
    for j in tl.static_range(W):
        b_weight = tl.load(p_weight + o_d * W + j, mask=m_d, other=0.0).to(tl.float32)
        back = o_t - (W - 1) + j
        at = i_t * BT + back
        here = (at >= first) & (at < end)
        b_x = tl.load(p_tile + back[:, None] * step + o_d[None, :], mask=here[:, None] & m_d[None, :], other=0.0)
        b_y += b_x.to(tl.float32) * b_weight[None, :]
        if i_t == 0 and j < W - 1:
            o_tail = (at + W - 1)[:, None] * tail_step + o_d[None, :]
            b_tail = tl.load(p_tail + o_tail, mask=(at < 0)[:, None] & m_d[None, :], other=0.0)
            b_y += b_tail.to(tl.float32) * b_weight[None, :]
    if ACTIVATE:
        b_y *= tl.sigmoid(b_y)
    if UNIT:
        b_y *= tl.rsqrt(tl.sum(b_y * b_y, axis=1) + eps)[:, None]
    p_y += i_b * T * step + (i_t * BT).to(tl.int64) * step + i_h * D
    m_y = (i_t * BT + o_t < T)[:, None] & m_d[None, :]
    tl.store(p_y + o_t[:, None] * step + o_d[None, :], b_y.to(p_y.dtype.element_ty), mask=m_y)
    if i_t == 0:
        p_next += i_b * tail_row + i_h * D
        for j in tl.static_range(W - 1):
            last = tl.full([DP], end - (W - 1) + j, dtype=tl.int32)
            o_last = last.to(tl.int64) * step + o_d
            b_last = tl.load(p_x + o_last, mask=m_d & (last >= first), other=0.0).to(tl.float32)
            o_before = (last + W - 1) * tail_step + o_d
            b_last += tl.load(p_tail + o_before, mask=m_d & (last < 0), other=0.0).to(tl.float32)
            tl.store(p_next + j * tail_step + o_d, b_last.to(p_next.dtype.element_ty), mask=m_d)


@triton.jit(do_not_specialize=["N"])
def decay_kernel(
    p_f, p_A_log, p_dt_bias, p_g, N: tl.int64, C: tl.constexpr, HEAD: tl.constexpr, CP: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """One program for each BN tokens and CP channels."""
    columns = (C + CP - 1) // CP
    i_c, i_block = tl.program_id(0) % columns, tl.program_id(0) // columns
    rows, o_c = i_block.to(tl.int64) * BN + tl.arange(0, BN), i_c * CP + tl.arange(0, CP)
    m_c = o_c < C
    at, mask = rows[:, None] * C + o_c[None, :], (rows < N)[:, None] & m_c[None, :]
    b_rate = tl.exp(tl.load(p_A_log + o_c // HEAD, mask=m_c, other=0.0).to(tl.float32))
    b_bias = tl.load(p_dt_bias + o_c, mask=m_c, other=0.0).to(tl.float32)
    b_x = tl.load(p_f + at, mask=mask, other=0.0).to(tl.float32) + b_bias[None, :]
    tl.store(p_g + at, -b_rate[None, :] * softplus(b_x), mask=mask)


@triton.jit
def softplus(b_x):
    """The function log(1 + exp x), to float32's relative precision also where it is small.

    A GPU's logarithm has only an absolute precision around 1. With e = exp(-|x|) and s = e / (2 + e) <= 1/3 this is
    max(x, 0) + 2 atanh(s), by the series of atanh.
    """
    e = tl.exp(-tl.abs(b_x))
    s = e / (2.0 + e)
    s2 = s * s
    series = 1.0 / 17
    for n in tl.static_range(8):
        series = series * s2 + 1.0 / (15 - 2 * n)
    return tl.maximum(b_x, 0.0) + 2.0 * s * series
