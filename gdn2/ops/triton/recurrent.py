"""The kernel of the recurrence token by token, with the state in registers: for decode and for short inputs.

It computes what the naive loop does. One program has a block of BV value columns of one sequence and head; it reads
their state once, writes it once (p_last may be p_first), and goes over it once for each token. With the decayed state S
and e = b k:

    u = w v - S^T e,   o = scale (S^T q + (q . k) u),   S <- S + k u^T
"""

from __future__ import annotations

import triton
import triton.language as tl

from gdn2.ops.triton.decay import place


@triton.jit(do_not_specialize=["T", "H"])
def recurrent_kernel(
    p_q, p_k, p_v, p_g, p_b, p_w, p_o, p_first, p_last, p_offsets, scale, T, H,
    K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, BV: tl.constexpr, BLOCKS: tl.constexpr,
    HAS_FIRST: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    """One program for each sequence, head and block of value columns; PACKED: p_offsets says where sequences begin."""
    _slot, i_n, i_h, i_v = place(H, BLOCKS)
    o_k, o_v = tl.arange(0, KP), i_v * BV + tl.arange(0, BV)
    m_k, m_v = o_k < K, o_v < V
    o_state = (i_n.to(tl.int64) * H + i_h) * K * V + o_k[:, None] * V + o_v[None, :]
    m_state = m_k[:, None] & m_v[None, :]
    if PACKED:
        start = tl.load(p_offsets + i_n).to(tl.int64)
        length = (tl.load(p_offsets + i_n + 1) - start).to(tl.int32)
    else:
        start, length = i_n.to(tl.int64) * T, T
    if HAS_FIRST:
        b_S = tl.load(p_first + o_state, mask=m_state, other=0.0).to(tl.float32)
    else:
        b_S = tl.zeros([KP, BV], dtype=tl.float32)
    for t in range(length):
        row = (start + t) * H + i_h
        b_q = tl.load(p_q + row * K + o_k, mask=m_k, other=0.0).to(tl.float32)
        b_k = tl.load(p_k + row * K + o_k, mask=m_k, other=0.0).to(tl.float32)
        b_g = tl.load(p_g + row * K + o_k, mask=m_k, other=0.0).to(tl.float32)
        b_e = tl.load(p_b + row * K + o_k, mask=m_k, other=0.0).to(tl.float32) * b_k
        b_v = tl.load(p_v + row * V + o_v, mask=m_v, other=0.0).to(tl.float32)
        b_z = b_v * tl.load(p_w + row * V + o_v, mask=m_v, other=0.0).to(tl.float32)
        b_S *= tl.where(b_g > 0, float("nan"), tl.exp(b_g))[:, None]
        b_u = b_z - tl.sum(b_S * b_e[:, None], axis=0)
        b_o = tl.sum(b_S * b_q[:, None], axis=0) + tl.sum(b_q * b_k) * b_u
        b_S += b_k[:, None] * b_u[None, :]
        tl.store(p_o + row * V + o_v, (b_o * scale).to(p_o.dtype.element_ty), mask=m_v)
    tl.store(p_last + o_state, b_S, mask=m_state)
