"""Gradients of attention over a run of tokens (banded.py), from its inputs, its result and the softmax's logarithms.

Two kernels, without atomics: `queries_kernel` goes over the keys of a block of queries, as the forward does, and sums
the products of the result and its gradient on the way; `keys_kernel` goes over the queries that see a block of keys, of
all heads of the group.

Letters are those of banded.py.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gdn2.ops.triton.band_tiles import OF_KEYS, OF_QUERIES, Tile, band_tile
from gdn2.ops.triton.banded import LOG2_E, constants_of, kind_of, rows, strides_of, visible, with_whole_heads
from gdn2.ops.triton.launch import launcher_of, on_device_of
from gdn2.padding import Positions

NUMBERS = [
    "T", "H", "W", "q_row", "q_token", "q_head", "k_row", "k_token", "k_head", "v_row", "v_token", "v_head", "scale",
    "factor",
]  # fmt: skip
"""Arguments of both kernels that nothing is compiled for."""


def band_gradients(
    do: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor,
    *, window: int | None, scale: float, positions: Positions | None = None,
    of_queries: Tile | None = None, of_keys: Tile | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of `band_forward` without a ring or a cache.

    Args:
        do: of the result, [B, T, H, D].
        q: [B, T, H, D].
        k: [B, T, G, D].
        v: [B, T, G, D].
        o: the result, contiguous.
        lse: the second result.
        window: as in the forward.
        scale: as in the forward.
        positions: as in the forward.
        of_queries: a tile in place of the default one.
        of_keys: a tile in place of the default one.

    Returns:
        Those of q, k and v in their dtypes, contiguous.
    """
    (B, T, H, D), G = q.shape, k.shape[2]
    q, k, v = with_whole_heads(q), with_whole_heads(k), with_whole_heads(v)
    do = do.to(q.dtype).contiguous()
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    if not q.numel():
        return dq, dk, dv
    delta = torch.empty_like(lse)
    bounded = positions is not None and positions.padded
    start = positions.start if bounded and positions is not None else None
    strides = [stride for x in (q, k, v) for stride in strides_of(x)]
    numbers = (T, H, window or 0, *strides, LOG2_E * scale, scale)
    tiles = (given or band_tile(name, D, q.element_size(), q.device)
             for name, given in ((OF_QUERIES, of_queries), (OF_KEYS, of_keys)))  # fmt: skip
    by_queries, by_keys = (constants_of(q, k, window, bounded, tile) for tile in tiles)
    with on_device_of(q):
        arguments: tuple[Tensor | None, ...] = (q, k, v, o, do, start, lse, delta, dq)
        launch = launcher_of(queries_kernel, tuple(by_queries.items()), kind_of(*arguments), q.device)
        launch((triton.cdiv(T, by_queries["BM"]), H, B), *arguments, *numbers)
        arguments = (q, k, v, do, start, lse, delta, dk, dv)
        launch = launcher_of(keys_kernel, tuple(by_keys.items()), kind_of(*arguments), q.device)
        launch((triton.cdiv(T, by_keys["BN"]), G, B), *arguments, *numbers)
    return dq, dk, dv


@triton.jit(do_not_specialize=NUMBERS)
def queries_kernel(
    p_q, p_k, p_v, p_o, p_do, p_start, p_lse, p_delta, p_dq, T, H, W,
    q_row, q_token, q_head, k_row, k_token, k_head, v_row, v_token, v_head, scale, factor,
    D: tl.constexpr, DP: tl.constexpr, R: tl.constexpr, WINDOWED: tl.constexpr, NARROW: tl.constexpr,
    BOUNDED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """One program for each block of queries, the last ones of a row first, head and row."""
    i_m, i_h, i_b = tl.num_programs(0) - 1 - tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    i_g, m0 = i_h // R, i_m * BM
    o_d, o_m, o_n = tl.arange(0, DP), tl.arange(0, BM), tl.arange(0, BN)
    o_i = m0 + o_m
    m_i, low = o_i < T, 0
    mask = m_i[:, None] & (o_d < D)[None, :]
    if BOUNDED:
        low = tl.load(p_start + i_b).to(tl.int32)
    q_base = p_q + (i_b * q_row + i_h * q_head + m0.to(tl.int64) * q_token) * D
    at = ((i_b * T + m0) * H + i_h) * D
    tile = o_m[:, None] * (H * D) + o_d[None, :]
    b_q = tl.load(q_base + o_m[:, None] * (q_token * D) + o_d[None, :], mask=mask, other=0.0)
    b_do = tl.load(p_do + at + tile, mask=mask, other=0.0)
    b_o = tl.load(p_o + at + tile, mask=mask, other=0.0)
    b_delta = tl.sum(b_o.to(tl.float32) * b_do.to(tl.float32), axis=1)
    o_t = (i_b * H + i_h) * T + o_i
    tl.store(p_delta + o_t, b_delta, mask=m_i)
    b_lse = tl.load(p_lse + o_t, mask=m_i, other=float("inf"))
    b_dq = tl.zeros([BM, DP], dtype=tl.float32)
    lowest, whole = low, low  # the first key that any query sees, and that all see
    if WINDOWED:
        lowest, whole = tl.maximum(m0 - W + 1, low), tl.maximum(m0 + BM - W, low)
    stop = tl.minimum(m0 + BM, T)
    first, until = lowest // BN * BN, (m0 + 1) // BN * BN
    inner = tl.minimum(tl.cdiv(whole, BN) * BN, tl.cdiv(stop, BN) * BN)
    until = tl.maximum(until, inner)
    k_base, v_base = p_k + (i_b * k_row + i_g * k_head) * D, p_v + (i_b * v_row + i_g * v_head) * D
    if WINDOWED or BOUNDED:
        b_dq = from_keys(
            b_q, b_do, b_lse, b_delta, b_dq, k_base, v_base, k_token, v_token, first, inner, T, low, W, o_i, o_n, o_d,
            scale, D, DP, BN, WINDOWED, BOUNDED, NARROW or BOUNDED,
        )  # fmt: skip
    b_dq = from_keys(
        b_q, b_do, b_lse, b_delta, b_dq, k_base, v_base, k_token, v_token, inner, until, T, low, W, o_i, o_n, o_d,
        scale, D, DP, BN, False, False, False,
    )  # fmt: skip
    b_dq = from_keys(
        b_q, b_do, b_lse, b_delta, b_dq, k_base, v_base, k_token, v_token, until, stop, T, low, W, o_i, o_n, o_d,
        scale, D, DP, BN, False, False, True,
    )  # fmt: skip
    tl.store(p_dq + at + tile, (b_dq * factor).to(p_dq.dtype.element_ty), mask=mask)


@triton.jit
def from_keys(
    b_q, b_do, b_lse, b_delta, b_dq, p_k, p_v, k_token, v_token, first, stop, T, low, W, o_i, o_n, o_d, scale,
    D: tl.constexpr, DP: tl.constexpr, BN: tl.constexpr, FROM_WINDOW: tl.constexpr, FROM_LOW: tl.constexpr,
    UP_TO: tl.constexpr,
):  # fmt: skip
    """Add to the gradients of queries what comes from the keys from `first` to `stop`; switches as in the forward."""
    k_step, v_step = k_token.to(tl.int64) * D, v_token.to(tl.int64) * D
    for j in range(first, stop, BN):
        o_j = j + o_n
        b_k = rows(p_k + j * k_step, k_token, o_n, o_j, T, o_d, D, DP, UP_TO)
        b_v = rows(p_v + j * v_step, v_token, o_n, o_j, T, o_d, D, DP, UP_TO)
        b_s = tl.dot(b_q, tl.trans(b_k), input_precision="tf32x3")
        b_p = tl.exp2(b_s * scale - b_lse[:, None])
        if FROM_WINDOW or FROM_LOW or UP_TO:
            b_p = tl.where(visible(o_i[:, None], o_j[None, :], low, W, FROM_WINDOW, FROM_LOW, UP_TO), b_p, 0.0)
        b_dp = tl.dot(b_do, tl.trans(b_v), input_precision="tf32x3")
        b_ds = b_p * (b_dp - b_delta[:, None])
        b_dq = tl.dot(b_ds.to(b_k.dtype), b_k, b_dq, input_precision="tf32x3")
    return b_dq


@triton.jit(do_not_specialize=NUMBERS)
def keys_kernel(
    p_q, p_k, p_v, p_do, p_start, p_lse, p_delta, p_dk, p_dv, T, H, W,
    q_row, q_token, q_head, k_row, k_token, k_head, v_row, v_token, v_head, scale, factor,
    D: tl.constexpr, DP: tl.constexpr, R: tl.constexpr, WINDOWED: tl.constexpr, NARROW: tl.constexpr,
    BOUNDED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """One program for each block of keys, key head and row."""
    n0, i_g, i_b = tl.program_id(0) * BN, tl.program_id(1), tl.program_id(2).to(tl.int64)
    o_d, o_m, o_n = tl.arange(0, DP), tl.arange(0, BM), tl.arange(0, BN)
    o_j = n0 + o_n
    mask, low = (o_j < T)[:, None] & (o_d < D)[None, :], 0
    if BOUNDED:
        low = tl.load(p_start + i_b).to(tl.int32)
    k_base = p_k + (i_b * k_row + i_g * k_head + n0.to(tl.int64) * k_token) * D
    v_base = p_v + (i_b * v_row + i_g * v_head + n0.to(tl.int64) * v_token) * D
    b_k = tl.load(k_base + o_n[:, None] * (k_token * D) + o_d[None, :], mask=mask, other=0.0)
    b_v = tl.load(v_base + o_n[:, None] * (v_token * D) + o_d[None, :], mask=mask, other=0.0)
    b_dk, b_dv = tl.zeros([BN, DP], dtype=tl.float32), tl.zeros([BN, DP], dtype=tl.float32)
    # Blocks of queries from `inner` to `until` see all of these keys, those before and behind some of them.
    stop, until = T, T // BM * BM
    if WINDOWED:
        stop, until = tl.minimum(n0 + BN - 1 + W, T), tl.minimum((n0 + W) // BM * BM, until)
    first, inner = n0 // BM * BM, tl.cdiv(n0 + BN - 1, BM) * BM
    if BOUNDED:
        inner = tl.where(n0 < low, stop, inner)
    inner = tl.minimum(inner, tl.cdiv(stop, BM) * BM)
    until = tl.maximum(until, inner)
    for r in range(R):
        i_h = i_g * R + r
        q_base, o_base = p_q + (i_b * q_row + i_h * q_head) * D, p_do + (i_b * T * H + i_h) * D
        of_head = (i_b * H + i_h) * T
        b_dk, b_dv = from_queries(
            b_k, b_v, b_dk, b_dv, q_base, o_base, p_lse + of_head, p_delta + of_head, q_token, H, first, inner, T, low,
            W, o_j, o_m, o_d, scale, D, DP, BM, WINDOWED and (NARROW or BOUNDED), BOUNDED, True, True,
        )  # fmt: skip
        b_dk, b_dv = from_queries(
            b_k, b_v, b_dk, b_dv, q_base, o_base, p_lse + of_head, p_delta + of_head, q_token, H, inner, until, T, low,
            W, o_j, o_m, o_d, scale, D, DP, BM, False, False, False, False,
        )  # fmt: skip
        b_dk, b_dv = from_queries(
            b_k, b_v, b_dk, b_dv, q_base, o_base, p_lse + of_head, p_delta + of_head, q_token, H, until, stop, T, low,
            W, o_j, o_m, o_d, scale, D, DP, BM, WINDOWED, False, False, True,
        )  # fmt: skip
    G = H // R
    at = ((i_b * T + n0) * G + i_g) * D
    tile = o_n[:, None] * (G * D) + o_d[None, :]
    tl.store(p_dk + at + tile, (b_dk * factor).to(p_dk.dtype.element_ty), mask=mask)
    tl.store(p_dv + at + tile, b_dv.to(p_dv.dtype.element_ty), mask=mask)


@triton.jit
def from_queries(
    b_k, b_v, b_dk, b_dv, p_q, p_do, p_lse, p_delta, q_token, H, first, stop, T, low, W, o_j, o_m, o_d, scale,
    D: tl.constexpr, DP: tl.constexpr, BM: tl.constexpr, FROM_WINDOW: tl.constexpr, FROM_LOW: tl.constexpr,
    UP_TO: tl.constexpr, ENDS: tl.constexpr,
):  # fmt: skip
    """Add to the gradients of keys and values what comes from the queries from `first` to `stop`.

    The switches are those of the forward; ENDS: there may be queries beyond the last.
    """
    q_step, o_step = q_token.to(tl.int64) * D, H.to(tl.int64) * D
    for i in range(first, stop, BM):
        o_i = i + o_m
        b_q = rows(p_q + i * q_step, q_token, o_m, o_i, T, o_d, D, DP, ENDS)
        b_do = rows(p_do + i * o_step, H, o_m, o_i, T, o_d, D, DP, ENDS)
        if ENDS:
            b_lse = tl.load(p_lse + o_i, mask=o_i < T, other=float("inf"))
            b_delta = tl.load(p_delta + o_i, mask=o_i < T, other=0.0)
        else:
            b_lse, b_delta = tl.load(p_lse + o_i), tl.load(p_delta + o_i)
        b_s = tl.dot(b_k, tl.trans(b_q), input_precision="tf32x3")
        b_p = tl.exp2(b_s * scale - b_lse[None, :])
        if FROM_WINDOW or FROM_LOW or UP_TO:
            b_p = tl.where(visible(o_i[None, :], o_j[:, None], low, W, FROM_WINDOW, FROM_LOW, UP_TO), b_p, 0.0)
        b_dv = tl.dot(b_p.to(b_do.dtype), b_do, b_dv, input_precision="tf32x3")
        b_dp = tl.dot(b_v, tl.trans(b_do), input_precision="tf32x3")
        b_ds = b_p * (b_dp - b_delta[None, :])
        b_dk = tl.dot(b_ds.to(b_q.dtype), b_q, b_dk, input_precision="tf32x3")
    return b_dk, b_dv
