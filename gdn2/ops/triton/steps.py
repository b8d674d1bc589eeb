"""Gradients of a layer's small steps: SwiGLU's product, short convolution, decay.

Each recomputes what its forward (norm.py, mixing.py) had in registers from the forward's inputs. Gradients of weights
are sums over all tokens: a program sums up what it goes through in float32 and writes one row, and PyTorch adds the
rows, so that the result does not depend on the order in which programs end.

Letters: B rows, T tokens, C channels, H heads, N rows, D channels of a head, DP the same padded to a power of
two, W taps, BT or BN rows of a tile, TILES tiles of a program.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gdn2.ops.triton.launch import launchable, launcher_of, on_device_of
from gdn2.ops.triton.mixing import softplus

TILE = 2048  # numbers of a tile
TILES = 8  # of a program
CONVOLUTION_TILE, CONVOLUTION_TILES = 512, 16  # of the convolution, whose one warp keeps a tile for each tap
ELEMENTS = 1024  # of a program of SwiGLU


def swiglu_gradients(dy: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `swiglu`, and its result once more: (gate's, up's, silu(gate) * up), each of the shape of gate."""
    dgate, dup, y, N = torch.empty_like(gate), torch.empty_like(up), torch.empty_like(gate), gate.numel()
    if N:
        constants = (("SIZE", ELEMENTS), ("EVEN", N % ELEMENTS == 0), ("num_warps", 4))
        launch = launcher_of(swiglu_gradients_kernel, constants, (dy.dtype, gate.dtype, up.dtype), gate.device)
        with on_device_of(gate):
            launch((triton.cdiv(N, ELEMENTS), 1, 1), launchable(dy), gate, up, dgate, dup, y, N)
    return dgate, dup, y


def decay_gradients(dg: Tensor, f: Tensor, A_log: Tensor, dt_bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `decay`: of f [B, T, C] in its dtype, of A_log [H] and of dt_bias [C] in float32."""
    C, N = f.shape[-1], f.numel() // f.shape[-1]
    df = torch.empty_like(f)
    if not N:
        return df, torch.zeros(len(A_log), device=f.device), torch.zeros(C, device=f.device)
    CP = min(triton.next_power_of_2(C), 1024)
    BN = max(1, TILE // CP)
    blocks = triton.cdiv(N, BN * TILES)
    sums = torch.empty(2, blocks, C, dtype=torch.float32, device=f.device)
    constants = (("C", C), ("HEAD", C // len(A_log)), ("CP", CP), ("BN", BN), ("TILES", TILES), ("num_warps", 4))
    kind = (dg.dtype, f.dtype, A_log.dtype, dt_bias.dtype)
    launch = launcher_of(decay_gradients_kernel, constants, kind, f.device)
    with on_device_of(f):
        launch((blocks * triton.cdiv(C, CP), 1, 1), launchable(dg), f, A_log, dt_bias, df, sums[0], sums[1], N)
    of_bias, of_rate = sums.sum(1)
    return df, of_rate.view(len(A_log), -1).sum(1), of_bias


def convolution_gradients(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, tail: Tensor, head_size: int,
    *, activate: bool, unit_length: bool, eps: float,
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    """Gradients of `convolve` without padding; `head_size` and what follows it are as in the forward.

    Args:
        dy: of the result, [B, T, C].
        x: the inputs [B, T, C].
        weight: [C, 1, W], W at most 4.
        bias: [C]; None: no bias.
        tail: the W - 1 inputs before x, [B, W - 1, C], in the dtype of x; it has no gradient.
        head_size: D.
        activate: whether silu follows.
        unit_length: whether each head is then scaled to unit length.
        eps: is added to a head's squared length.

    Returns:
        That of x in its dtype, those of weight and bias in float32.
    """
    B, T, C = x.shape
    W, D = weight.shape[-1], head_size
    dx, dz = torch.empty_like(x), torch.empty_like(x)
    if not x.numel():
        return dx, torch.zeros_like(weight, dtype=torch.float32), None if bias is None else torch.zeros_like(bias)
    DP = max(16, triton.next_power_of_2(D))
    BT = max(1, min(CONVOLUTION_TILE // DP, triton.next_power_of_2(T)))
    blocks = triton.cdiv(T, BT * CONVOLUTION_TILES)
    sums = torch.empty(B * blocks, W + 1, C, dtype=torch.float32, device=x.device)
    constants = {"D": D, "DP": DP, "W": W, "BT": BT, "TILES": CONVOLUTION_TILES, "HAS_BIAS": bias is not None,
                 "ACTIVATE": activate, "UNIT": unit_length, "num_warps": 1}  # fmt: skip
    BN = max(1, min(TILE // DP, triton.next_power_of_2(T)))
    ahead = (("D", D), ("DP", DP), ("W", W), ("BT", BN), ("num_warps", 4))
    kind = (dy.dtype, x.dtype, weight.dtype, None if bias is None else bias.dtype)
    inner = launcher_of(convolution_inner_gradients_kernel, tuple(constants.items()), kind, x.device)
    spread = launcher_of(convolution_input_gradients_kernel, ahead, kind, x.device)
    with on_device_of(x):
        inner((B * blocks * (C // D), 1, 1), launchable(dy), x, weight, bias, tail, dz, sums, T, C // D, eps)
        spread((B * triton.cdiv(T, BN) * (C // D), 1, 1), dz, weight, dx, T, C // D)
    summed = sums.sum(0)
    return dx, summed[:W].t().reshape(C, 1, W), None if bias is None else summed[W]


@triton.jit(do_not_specialize=["N"])
def swiglu_gradients_kernel(
    p_dy, p_gate, p_up, p_dgate, p_dup, p_y, N: tl.int64, SIZE: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """One program for each SIZE numbers; EVEN: N is a multiple of SIZE."""
    o = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    mask = None if EVEN else o < N
    b_gate = tl.load(p_gate + o, mask=mask).to(tl.float32)
    b_up = tl.load(p_up + o, mask=mask).to(tl.float32)
    b_dy = tl.load(p_dy + o, mask=mask).to(tl.float32)
    b_open = tl.sigmoid(b_gate)
    b_silu = b_gate * b_open
    b_slope = b_open * (1 + b_gate * (1 - b_open))
    tl.store(p_dgate + o, (b_dy * b_up * b_slope).to(p_dgate.dtype.element_ty), mask=mask)
    tl.store(p_dup + o, (b_dy * b_silu).to(p_dup.dtype.element_ty), mask=mask)
    tl.store(p_y + o, (b_silu * b_up).to(p_y.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["N"])
def decay_gradients_kernel(
    p_dg, p_f, p_A_log, p_dt_bias, p_df, p_of_bias, p_of_rate, N: tl.int64,
    C: tl.constexpr, HEAD: tl.constexpr, CP: tl.constexpr, BN: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """One program for TILES tiles of BN tokens and CP channels."""
    columns = (C + CP - 1) // CP
    i_c, i = tl.program_id(0) % columns, (tl.program_id(0) // columns).to(tl.int64)
    o_c = i_c * CP + tl.arange(0, CP)
    m_c = o_c < C
    b_rate = tl.exp(tl.load(p_A_log + o_c // HEAD, mask=m_c, other=0.0).to(tl.float32))
    b_bias = tl.load(p_dt_bias + o_c, mask=m_c, other=0.0).to(tl.float32)
    b_of_bias, b_of_rate = tl.zeros([CP], dtype=tl.float32), tl.zeros([CP], dtype=tl.float32)
    for tile in range(TILES):
        rows = (i * TILES + tile) * BN + tl.arange(0, BN)
        at, mask = rows[:, None] * C + o_c[None, :], (rows < N)[:, None] & m_c[None, :]
        b_x = tl.load(p_f + at, mask=mask, other=0.0).to(tl.float32) + b_bias[None, :]
        b_dg = tl.load(p_dg + at, mask=mask, other=0.0).to(tl.float32)
        b_df = -b_dg * b_rate[None, :] * tl.sigmoid(b_x)
        tl.store(p_df + at, b_df.to(p_df.dtype.element_ty), mask=mask)
        b_of_bias += tl.sum(b_df, axis=0)
        b_of_rate -= tl.sum(b_dg * b_rate[None, :] * softplus(b_x), axis=0)
    tl.store(p_of_bias + i * C + o_c, b_of_bias, mask=m_c)
    tl.store(p_of_rate + i * C + o_c, b_of_rate, mask=m_c)


@triton.jit(do_not_specialize=["T", "H", "eps"])
def convolution_inner_gradients_kernel(
    p_dy, p_x, p_weight, p_bias, p_tail, p_dz, p_sums, T, H, eps,
    D: tl.constexpr, DP: tl.constexpr, W: tl.constexpr, BT: tl.constexpr, TILES: tl.constexpr,
    HAS_BIAS: tl.constexpr, ACTIVATE: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """Of the convolution's sum z, and of weight and bias; one program for a head and TILES tiles of BT tokens."""
    i_h, i = tl.program_id(0) % H, (tl.program_id(0) // H).to(tl.int64)
    blocks = tl.cdiv(T, BT * TILES)
    i_b, i_t = i // blocks, (i % blocks).to(tl.int32)
    o_d, C = tl.arange(0, DP), H * D
    m_d = o_d < D
    first = i_b * T * C + i_h * D
    p_weight += i_h * D * W
    p_sums += i * (W + 1) * C + i_h * D
    p_tail += i_b * (W - 1) * C + i_h * D
    b_bias = tl.zeros([DP], dtype=tl.float32)
    if HAS_BIAS:
        b_bias += tl.load(p_bias + i_h * D + o_d, mask=m_d, other=0.0).to(tl.float32)
    b_w0, b_w1 = taps(p_weight, o_d, m_d, 0, D, W), taps(p_weight, o_d, m_d, 1, D, W)
    b_w2, b_w3 = taps(p_weight, o_d, m_d, 2, D, W), taps(p_weight, o_d, m_d, 3, D, W)
    b_s0, b_s1 = tl.zeros([DP], dtype=tl.float32), tl.zeros([DP], dtype=tl.float32)
    b_s2, b_s3 = tl.zeros([DP], dtype=tl.float32), tl.zeros([DP], dtype=tl.float32)
    b_of_bias = tl.zeros([DP], dtype=tl.float32)
    for tile in range(TILES):
        o_t = (i_t * TILES + tile) * BT + tl.arange(0, BT)
        m_t = (o_t < T)[:, None] & m_d[None, :]
        at = first + o_t.to(tl.int64)[:, None] * C + o_d[None, :]
        b_x0 = earlier(p_x, p_tail, at, o_t, o_d, m_t, C, 0, W)
        b_x1 = earlier(p_x, p_tail, at, o_t, o_d, m_t, C, 1, W)
        b_x2 = earlier(p_x, p_tail, at, o_t, o_d, m_t, C, 2, W)
        b_x3 = earlier(p_x, p_tail, at, o_t, o_d, m_t, C, 3, W)
        b_z = b_x0 * b_w0[None, :] + b_x1 * b_w1[None, :] + b_x2 * b_w2[None, :] + b_x3 * b_w3[None, :]
        b_z += b_bias[None, :]
        b_dy = tl.load(p_dy + at, mask=m_t, other=0.0).to(tl.float32)
        b_open = tl.sigmoid(b_z)
        if UNIT:
            b_a = b_z * b_open if ACTIVATE else b_z
            b_scale = tl.rsqrt(tl.sum(b_a * b_a, axis=1) + eps)[:, None]
            b_unit = b_a * b_scale
            b_dy = b_scale * (b_dy - b_unit * tl.sum(b_dy * b_unit, axis=1)[:, None])
        if ACTIVATE:
            b_dy *= b_open * (1 + b_z * (1 - b_open))
        tl.store(p_dz + at, b_dy.to(p_dz.dtype.element_ty), mask=m_t)
        b_s0 += tl.sum(b_x0 * b_dy, axis=0)
        b_s1 += tl.sum(b_x1 * b_dy, axis=0)
        b_s2 += tl.sum(b_x2 * b_dy, axis=0)
        b_s3 += tl.sum(b_x3 * b_dy, axis=0)
        b_of_bias += tl.sum(b_dy, axis=0)
    tl.store(p_sums + (W - 1) * C + o_d, b_s0, mask=m_d)
    tl.store(p_sums + (W - 2) * C + o_d, b_s1, mask=m_d & (W > 1))
    tl.store(p_sums + (W - 3) * C + o_d, b_s2, mask=m_d & (W > 2))
    tl.store(p_sums + (W - 4) * C + o_d, b_s3, mask=m_d & (W > 3))
    tl.store(p_sums + W * C + o_d, b_of_bias, mask=m_d)


@triton.jit
def taps(p_weight, o_d, m_d, back: tl.constexpr, D: tl.constexpr, W: tl.constexpr):
    """The weights of the inputs `back` tokens ago; zeros where there is no such tap."""
    mask = m_d & (o_d < D if back < W else o_d < 0)
    return tl.load(p_weight + o_d * W + (W - 1 - back), mask=mask, other=0.0).to(tl.float32)


@triton.jit
def earlier(p_x, p_tail, at, o_t, o_d, m_t, C, back: tl.constexpr, W: tl.constexpr):
    """The inputs `back` tokens before those of a tile, from the tail where that is before the first."""
    b_x = tl.load(p_x + at - back * C, mask=m_t & (o_t >= back)[:, None], other=0.0).to(tl.float32)
    if back > 0 and back < W:
        o_tail = (o_t - back + W - 1)[:, None] * C + o_d[None, :]
        b_x += tl.load(p_tail + o_tail, mask=m_t & (o_t < back)[:, None], other=0.0).to(tl.float32)
    return b_x


@triton.jit(do_not_specialize=["T", "H"])
def convolution_input_gradients_kernel(
    p_dz, p_weight, p_dx, T, H, D: tl.constexpr, DP: tl.constexpr, W: tl.constexpr, BT: tl.constexpr,
):  # fmt: skip
    """Of the inputs: dx_t = sum_j weight_j dz_{t+W-1-j}; one program for a head and BT tokens."""
    i_h, i = tl.program_id(0) % H, (tl.program_id(0) // H).to(tl.int64)
    blocks = tl.cdiv(T, BT)
    i_b, o_t = i // blocks, (i % blocks).to(tl.int32) * BT + tl.arange(0, BT)
    o_d, C = tl.arange(0, DP), H * D
    m_d = o_d < D
    at = i_b * T * C + i_h * D + o_t.to(tl.int64)[:, None] * C + o_d[None, :]
    b_dx = tl.zeros([BT, DP], dtype=tl.float32)
    for j in tl.static_range(W):
        ahead = W - 1 - j
        b_weight = tl.load(p_weight + (i_h * D + o_d) * W + j, mask=m_d, other=0.0).to(tl.float32)
        mask = (o_t + ahead < T)[:, None] & m_d[None, :]
        b_dx += tl.load(p_dz + at + ahead * C, mask=mask, other=0.0).to(tl.float32) * b_weight[None, :]
    tl.store(p_dx + at, b_dx.to(p_dx.dtype.element_ty), mask=(o_t < T)[:, None] & m_d[None, :])
