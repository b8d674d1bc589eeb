"""Softmax attention of a run of tokens, causal, to all keys before or to the last W of them: the forward pass.

A program has BM queries of one head and goes over the blocks of BN keys that they can see, softmax and sums in float32
(arXiv:2205.14135, arXiv:2307.08691). Blocks that all of its queries see whole need no mask; blocks that none sees are
not looked at. Heads of a group read the same keys as they lie. Tiles depend on the head and its numbers alone, so that
a row gives the same bits in any batch.

Letters: B rows, T queries of a row, S keys, H query heads, G key and value heads, R heads of a group, D channels of a
head, DP the same padded to a power of two, W tokens of a window, BM queries and BN keys of a block.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gdn2.ops.triton.band_tiles import Tile, band_tile
from gdn2.ops.triton.launch import is_aligned, launcher_of, on_device_of
from gdn2.padding import Positions

LOG2_E = 1.4426950408889634
LEAST = tl.constexpr(-1e30)  # below every score; finite, so that a row which has seen nothing yet has no NaN


def band_forward(
    q: Tensor, k: Tensor, v: Tensor, window: int | None, scale: float,
    *, positions: Positions | None = None, ring: tuple[Tensor, Tensor] | None = None, cached: bool = False,
    with_lse: bool = False, tile: Tile | None = None,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Attend with a run of queries, without gradients.

    Args:
        q: [B, T, H, D].
        k: [B, S, G, D]: the run's own keys, S = T; or the slots of all of a row's tokens.
        v: [B, S, G, D].
        window: the tokens that a query sees, its own included; None: all before it.
        scale: of the products of queries and keys, positive.
        positions: where the run's tokens are; None: in columns 0 to T - 1 of every row, behind nothing.
        ring: keys and values [B, W, G, D] of the tokens before the run, the token at position p in slot p modulo W.
        cached: whether a key lies in the slot of its position, and not in the column of its query.
        with_lse: whether the backward pass will need the second result.
        tile: in place of the default one.

    Returns:
        [B, T, H, D] in the dtype of q, 0 at padding; and the logarithms (base 2) of the softmax's sums, float32
        [B, H, T], infinite at padding.
    """
    (B, T, H, D), S = q.shape, k.shape[1]
    q, k, v = with_whole_heads(q), with_whole_heads(k), with_whole_heads(v)
    ring_k, ring_v = (None, None) if ring is None else map(with_whole_heads, ring)
    o = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse = torch.empty(B, H, T, dtype=torch.float32, device=q.device) if with_lse else None
    if not o.numel():
        return o, lse
    tile = tile or band_tile("forward", D, q.element_size(), q.device)
    bounded = positions is not None and (positions.padded or cached)
    before = None if positions is None or (ring is None and not cached) else positions.before
    start, count = (positions.start, positions.count) if bounded and positions is not None else (None, None)
    constants = constants_of(q, k, window, bounded, tile) | {"RING": ring is not None, "CACHED": cached}
    arguments = (q, k, v, ring_k, ring_v, before, start, count, o, lse)
    launch = launcher_of(forward_kernel, tuple(constants.items()), kind_of(*arguments), q.device)
    strides = [stride for x in (q, k, v, k if ring_k is None else ring_k, v if ring_v is None else ring_v)
               for stride in strides_of(x)]  # fmt: skip
    with on_device_of(q):
        grid = (triton.cdiv(T, tile["BM"]), H, B)
        launch(grid, *arguments, T, S, H, window or 0, *strides, LOG2_E * scale)
    return o, lse


def constants_of(q: Tensor, k: Tensor, window: int | None, bounded: bool, tile: Tile) -> dict[str, Any]:
    """The compile-time arguments that forward and backward share, and a tile's."""
    D = q.shape[3]
    sizes = {"D": D, "DP": max(16, triton.next_power_of_2(D)), "R": q.shape[2] // k.shape[2]}
    narrow = window is not None and window < tile["BM"] + tile["BN"]
    return sizes | {"WINDOWED": window is not None, "NARROW": narrow, "BOUNDED": bounded} | tile


def kind_of(*tensors: Tensor | None) -> tuple[Any, ...]:
    """All of a launch's tensors that Triton specialises on."""
    return tuple(None if x is None else (x.dtype, is_aligned(x)) for x in tensors)


def with_whole_heads(x: Tensor) -> Tensor:
    """The same numbers [B, T, H, D], in any memory in which heads are whole and D numbers, or a multiple, apart."""
    D = x.shape[3]
    return x if x.stride(3) == 1 and not any(stride % D for stride in x.stride()[:3]) else x.contiguous()


def strides_of(x: Tensor) -> list[int]:
    """The strides of rows, tokens and heads, counted in heads' channels."""
    return [stride // x.shape[3] for stride in x.stride()[:3]]


@triton.jit(
    do_not_specialize=[
        "T", "S", "H", "W", "q_row", "q_token", "q_head", "k_row", "k_token", "k_head", "v_row", "v_token", "v_head",
        "rk_row", "rk_token", "rk_head", "rv_row", "rv_token", "rv_head", "scale",
    ]
)  # fmt: skip
def forward_kernel(
    p_q, p_k, p_v, p_ring_k, p_ring_v, p_before, p_start, p_count, p_o, p_lse, T, S, H, W,
    q_row, q_token, q_head, k_row, k_token, k_head, v_row, v_token, v_head,
    rk_row, rk_token, rk_head, rv_row, rv_token, rv_head, scale,
    D: tl.constexpr, DP: tl.constexpr, R: tl.constexpr, WINDOWED: tl.constexpr, NARROW: tl.constexpr,
    BOUNDED: tl.constexpr, RING: tl.constexpr, CACHED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """One program for each block of queries, the last ones of a row first, head and row."""
    i_m, i_h, i_b = tl.num_programs(0) - 1 - tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    i_g, m0 = i_h // R, i_m * BM
    o_d, o_m, o_n = tl.arange(0, DP), tl.arange(0, BM), tl.arange(0, BN)
    m_d, o_c = o_d < D, m0 + o_m
    start, end, shift = 0, T, 0  # columns of the row's first token and behind its last; keys' columns less queries'
    if BOUNDED:
        start = tl.load(p_start + i_b).to(tl.int32)
        end = start + tl.load(p_count + i_b).to(tl.int32)
    if CACHED:
        shift = tl.load(p_before + i_b).to(tl.int32) - start
    m_m = (o_c >= start) & (o_c < end)
    q_base = p_q + (i_b * q_row + i_h * q_head + m0.to(tl.int64) * q_token) * D
    q_tile = o_m[:, None] * (q_token * D) + o_d[None, :]
    b_q = tl.load(q_base + q_tile, mask=m_m[:, None] & m_d[None, :], other=0.0)
    b_max, b_sum = tl.full([BM], LEAST, dtype=tl.float32), tl.zeros([BM], dtype=tl.float32)
    b_o = tl.zeros([BM, DP], dtype=tl.float32)
    if (m0 < end) & (m0 + BM > start):
        if RING:  # in order: the token j of the last W before the run, in slot before + j modulo W
            before = tl.load(p_before + i_b)
            oldest = (before % W).to(tl.int32)
            empty = tl.maximum(W - before, 0).to(tl.int32)
            first = tl.maximum(tl.maximum(m0 - start + 1, empty), 0) // BN * BN
            ring_k, ring_v = i_b * rk_row + i_g * rk_head, i_b * rv_row + i_g * rv_head
            for j in range(first, W, BN):
                o_j = j + o_n
                slot = oldest + o_j
                slot = tl.where(slot >= W, slot - W, slot).to(tl.int64)
                m_k = ((o_j >= empty) & (o_j < W))[:, None] & m_d[None, :]
                b_k = tl.load(p_ring_k + (ring_k + slot[:, None] * rk_token) * D + o_d[None, :], mask=m_k, other=0.0)
                b_v = tl.load(p_ring_v + (ring_v + slot[:, None] * rv_token) * D + o_d[None, :], mask=m_k, other=0.0)
                seen = (o_j[None, :] > o_c[:, None] - start) & ((o_j >= empty) & (o_j < W))[None, :]
                b_o, b_max, b_sum = softmax_step(b_q, b_o, b_max, b_sum, b_k, b_v, seen, scale, True)
        low, o_i = 0, o_c + shift
        if BOUNDED and not CACHED:
            low = start
        lowest, whole = low, low  # the first key that any query sees, and that all see
        if WINDOWED:
            lowest, whole = tl.maximum(m0 + shift - W + 1, low), tl.maximum(m0 + BM + shift - W, low)
        stop = tl.minimum(tl.maximum(tl.minimum(m0 + BM, end) + shift, 0), S)
        first, until = lowest // BN * BN, tl.maximum(m0 + shift + 1, 0) // BN * BN
        inner = tl.minimum(tl.cdiv(whole, BN) * BN, tl.cdiv(stop, BN) * BN)
        until = tl.maximum(until, inner)
        k_base, v_base = p_k + (i_b * k_row + i_g * k_head) * D, p_v + (i_b * v_row + i_g * v_head) * D
        # Before `inner` a block may hold keys that some queries see no more, from `until` on keys that they do not see
        # yet; in a narrow window, and where padding ends, one block has both.
        if WINDOWED or BOUNDED:
            b_o, b_max, b_sum = over_keys(
                b_q, b_o, b_max, b_sum, k_base, v_base, k_token, v_token, first, inner, S, low, W, o_i, o_n, o_d, scale,
                D, DP, BN, WINDOWED, BOUNDED, NARROW or BOUNDED,
            )  # fmt: skip
        b_o, b_max, b_sum = over_keys(
            b_q, b_o, b_max, b_sum, k_base, v_base, k_token, v_token, inner, until, S, low, W, o_i, o_n, o_d, scale,
            D, DP, BN, False, False, False,
        )  # fmt: skip
        b_o, b_max, b_sum = over_keys(
            b_q, b_o, b_max, b_sum, k_base, v_base, k_token, v_token, until, stop, S, low, W, o_i, o_n, o_d, scale,
            D, DP, BN, False, False, True,
        )  # fmt: skip
    m_t, b_sum = o_c < T, tl.where(m_m, b_sum, 1.0)
    b_o = tl.where(m_m[:, None], b_o / b_sum[:, None], 0.0)
    o_base, o_tile = p_o + ((i_b * T + m0) * H + i_h) * D, o_m[:, None] * (H * D) + o_d[None, :]
    tl.store(o_base + o_tile, b_o.to(p_o.dtype.element_ty), mask=m_t[:, None] & m_d[None, :])
    if p_lse is not None:
        b_lse = tl.where(m_m, b_max + tl.log2(b_sum), float("inf"))
        tl.store(p_lse + (i_b * H + i_h) * T + o_c, b_lse, mask=m_t)


@triton.jit
def over_keys(
    b_q, b_o, b_max, b_sum, p_k, p_v, k_token, v_token, first, stop, S, low, W, o_i, o_n, o_d, scale,
    D: tl.constexpr, DP: tl.constexpr, BN: tl.constexpr, FROM_WINDOW: tl.constexpr, FROM_LOW: tl.constexpr,
    UP_TO: tl.constexpr,
):  # fmt: skip
    """Go over the keys from `first` to `stop`; the switches say what may hide one from a query (`visible`)."""
    k_step, v_step = k_token.to(tl.int64) * D, v_token.to(tl.int64) * D
    for j in range(first, stop, BN):
        o_j = j + o_n
        b_k = rows(p_k + j * k_step, k_token, o_n, o_j, S, o_d, D, DP, UP_TO)
        b_v = rows(p_v + j * v_step, v_token, o_n, o_j, S, o_d, D, DP, UP_TO)
        seen = visible(o_i[:, None], o_j[None, :], low, W, FROM_WINDOW, FROM_LOW, UP_TO)
        MASKED: tl.constexpr = FROM_WINDOW or FROM_LOW or UP_TO
        b_o, b_max, b_sum = softmax_step(b_q, b_o, b_max, b_sum, b_k, b_v, seen, scale, MASKED)
    return b_o, b_max, b_sum


@triton.jit
def rows(p_x, step, o_x, o_t, T, o_d, D: tl.constexpr, DP: tl.constexpr, MASKED: tl.constexpr):
    """Load rows o_x [n] of D channels, `step` heads apart, that are rows o_t of T; MASKED: some may be beyond."""
    offsets = o_x[:, None] * (step * D) + o_d[None, :]
    if MASKED:
        return tl.load(p_x + offsets, mask=(o_t < T)[:, None] & (o_d < D)[None, :], other=0.0)
    elif D != DP:
        return tl.load(p_x + offsets, mask=(o_d < D)[None, :], other=0.0)
    else:
        return tl.load(p_x + offsets)


@triton.jit
def visible(o_i, o_j, low, W, FROM_WINDOW: tl.constexpr, FROM_LOW: tl.constexpr, UP_TO: tl.constexpr):
    """Whether queries at o_i see keys at o_j, as far as the switches say: window, first key `low`, own position."""
    seen = True
    if UP_TO:
        seen = o_j <= o_i
    if FROM_WINDOW:
        seen = seen & (o_j > o_i - W)
    if FROM_LOW:
        seen = seen & (o_j >= low)
    return seen


@triton.jit
def softmax_step(b_q, b_o, b_max, b_sum, b_k, b_v, seen, scale, MASKED: tl.constexpr):
    """Add a block of keys and values to the sums of exp2(scores - their maximum); the scale is positive."""
    b_s = tl.dot(b_q, tl.trans(b_k.to(b_q.dtype)), input_precision="tf32x3")
    if MASKED:
        b_s = tl.where(seen, b_s, float("-inf"))
    b_new = tl.maximum(b_max, tl.max(b_s, axis=1) * scale)
    b_p = tl.exp2(b_s * scale - b_new[:, None])
    b_old = tl.exp2(b_max - b_new)
    b_sum = b_sum * b_old + tl.sum(b_p, axis=1)
    b_o = b_o * b_old[:, None]
    b_o = tl.dot(b_p.to(b_q.dtype), b_v.to(b_q.dtype), b_o, input_precision="tf32x3")
    return b_o, b_new, b_sum
