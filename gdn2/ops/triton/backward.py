"""The chunkwise backward pass: two kernels after `prepare` and `scan`, which run again to save memory.

The equations are those of gdn2/README.md, "Gradients". The adjoint H of the state after a chunk follows the affine
recursion of the forward pass, transposed (`prepare_kernel` makes R^T do, `scan_kernel` runs in reverse). Then:

1. `value_gradients`: U = M (z - E+ S), dU = P^T do + K- H and Y = M^T dU, the adjoint of the triangular solve;
   dv = w Y, dw = v Y, and the score gradients dP = tril(do U^T), dL = -stril(Y U^T).
2. `key_gradients`: from states and scores the gradients of q, e = b k and the keys' own role kappa; with them
   dk = kappa + b de, db = k de, and dg as the sum, from each token to the end, of q dq + e de - k kappa, plus what the
   decay of the state by the whole chunk contributes.

No kernel adds to memory that another program writes: two runs give the same bits.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gdn2.ops.triton.decay import (
    STRONGEST_STEP,
    dot,
    dot_add,
    level_decay,
    level_mask,
    log2_decay,
    place,
)


@triton.jit(do_not_specialize=["H"])
def value_gradients_kernel(
    p_M, p_P, p_E, p_K, p_S, p_H, p_v, p_w, p_do, p_U, p_Y, p_dP, p_dL, p_dv, p_dw, p_starts, p_lengths, scale, H,
    V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """One program for each chunk and head: dv, dw and the score gradients dP and dL; U and Y for `key_gradients`."""
    slot, i_n, i_h, _ = place(H, 1)
    start, length = tl.load(p_starts + i_n), tl.load(p_lengths + i_n)
    row, square, o_c = start * H + i_h, slot * (C * C), tl.arange(0, C)
    o_square = o_c[:, None] * C + o_c[None, :]
    b_dP = tl.zeros([C, C], dtype=tl.float32)
    b_dL = tl.zeros([C, C], dtype=tl.float32)
    for v0 in range(0, VP, BV):
        o_v = v0 + tl.arange(0, BV)
        o_in = o_c[:, None] * (H * V) + o_v[None, :]
        m_in = (o_c < length)[:, None] & (o_v < V)[None, :]
        b_v = tl.load(p_v + row * V + o_in, mask=m_in, other=0.0).to(tl.float32)
        b_w = tl.load(p_w + row * V + o_in, mask=m_in, other=0.0).to(tl.float32)
        b_do = tl.load(p_do + row * V + o_in, mask=m_in, other=0.0)
        b_read = tl.zeros([C, BV], dtype=tl.float32)
        b_dU = dot(tl.trans(tl.load(p_P + square + o_square)), b_do, PRECISION)
        for k0 in range(0, KP, BK):
            o_k = k0 + tl.arange(0, BK)
            o_rows, o_state = o_c[:, None] * KP + o_k[None, :], o_k[:, None] * VP + o_v[None, :]
            b_E, b_S = tl.load(p_E + slot * (C * KP) + o_rows), tl.load(p_S + slot * (KP * VP) + o_state)
            b_read = dot_add(b_E, b_S, b_read, PRECISION)
            b_K, b_H = tl.load(p_K + slot * (C * KP) + o_rows), tl.load(p_H + slot * (KP * VP) + o_state)
            b_dU = dot_add(b_K, b_H, b_dU, PRECISION)
        b_M = tl.load(p_M + square + o_square)
        b_U = dot(b_M, b_v * b_w - b_read, PRECISION).to(p_U.dtype.element_ty)
        b_Y = dot(tl.trans(b_M), b_dU, PRECISION)
        tl.store(p_dv + row * V + o_in, (b_w * b_Y).to(p_dv.dtype.element_ty), mask=m_in)
        tl.store(p_dw + row * V + o_in, (b_v * b_Y).to(p_dw.dtype.element_ty), mask=m_in)
        b_Y = b_Y.to(p_Y.dtype.element_ty)
        o_out = o_c[:, None] * VP + o_v[None, :]
        tl.store(p_U + slot * (C * VP) + o_out, b_U)
        tl.store(p_Y + slot * (C * VP) + o_out, b_Y)
        b_U = tl.trans(b_U)
        b_dP = dot_add(b_do, b_U, b_dP, PRECISION)
        b_dL = dot_add(b_Y, b_U, b_dL, PRECISION)
    b_dP = tl.where(o_c[:, None] >= o_c[None, :], b_dP * scale, 0.0)
    b_dL = tl.where(o_c[:, None] > o_c[None, :], -b_dL, 0.0)
    tl.store(p_dP + square + o_square, b_dP.to(p_dP.dtype.element_ty))
    tl.store(p_dL + square + o_square, b_dL.to(p_dL.dtype.element_ty))


@triton.jit(do_not_specialize=["H"])
def key_gradients_kernel(
    p_q, p_k, p_b, p_g, p_S, p_H, p_do, p_U, p_Y, p_dP, p_dL, p_dq, p_dk, p_db, p_dg, p_by_level,
    p_starts, p_lengths, scale, H,
    K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr, C: tl.constexpr, LOG_C: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, BY_LEVEL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program for each chunk, head and block of key channels: dq, dk, db and dg.

    The chunks that `prepare_kernel` marked in p_by_level are left to a second launch, BY_LEVEL.
    """
    slot, i_n, i_h, i_k = place(H, KP // BK)
    if (tl.load(p_by_level + slot) != 0) != BY_LEVEL:
        return
    start, length = tl.load(p_starts + i_n), tl.load(p_lengths + i_n)
    row, square = start * H + i_h, slot * (C * C)
    o_c, o_k = tl.arange(0, C), i_k * BK + tl.arange(0, BK)
    b_dq = tl.zeros([C, BK], dtype=tl.float32)
    b_de = tl.zeros([C, BK], dtype=tl.float32)
    b_dk = tl.zeros([C, BK], dtype=tl.float32)
    b_SH = tl.zeros([BK], dtype=tl.float32)
    for v0 in range(0, VP, BV):
        o_v = v0 + tl.arange(0, BV)
        o_do, m_do = o_c[:, None] * (H * V) + o_v[None, :], (o_c < length)[:, None] & (o_v < V)[None, :]
        b_do = tl.load(p_do + row * V + o_do, mask=m_do, other=0.0)
        o_value, o_state = o_c[:, None] * VP + o_v[None, :], o_k[:, None] * VP + o_v[None, :]
        b_S, b_H = tl.load(p_S + slot * (KP * VP) + o_state), tl.load(p_H + slot * (KP * VP) + o_state)
        b_SH += tl.sum(b_S.to(tl.float32) * b_H.to(tl.float32), axis=1)
        b_S = tl.trans(b_S)
        b_dq = dot_add(b_do, b_S, b_dq, PRECISION)
        b_de = dot_add(tl.load(p_Y + slot * (C * VP) + o_value), b_S, b_de, PRECISION)
        b_dk = dot_add(tl.load(p_U + slot * (C * VP) + o_value), tl.trans(b_H), b_dk, PRECISION)
    tl.debug_barrier()  # here and below: it holds back later loads, so that fewer values are alive and none spills

    o_in = o_c[:, None] * (H * K) + o_k[None, :]
    m_in = (o_c < length)[:, None] & (o_k < K)[None, :]
    b_graw = tl.load(p_g + row * K + o_in, mask=m_in, other=0.0)
    b_g = log2_decay(b_graw)
    o_square = o_c[:, None] * C + o_c[None, :]
    b_dP, b_dL = tl.load(p_dP + square + o_square), tl.load(p_dL + square + o_square)
    total = tl.sum(b_g, axis=0)
    if BY_LEVEL:
        b_k = tl.load(p_k + row * K + o_in, mask=m_in, other=0.0).to(tl.float32)
        m_next = ((o_c + 1 < length) & (o_c + 1 < C))[:, None] & (o_k < K)[None, :]
        b_next = log2_decay(tl.load(p_g + row * K + (o_in + H * K), mask=m_next, other=0.0))
        rows, columns = level_decay(b_g, b_next, o_c, LOG_C)
        b_dq, b_de, b_dk = b_dq * rows * scale, -b_de * rows, b_dk * columns
        b_close = tl.sum(b_k * b_dk, axis=0)
        for level in tl.static_range(2, LOG_C):
            tl.debug_barrier()  # inputs are read again at each level, in two halves: no spills on sm_80
            b_q = tl.load(p_q + row * K + o_in, mask=m_in, other=0.0).to(tl.float32)
            b_k = tl.load(p_k + row * K + o_in, mask=m_in, other=0.0).to(tl.float32)
            rows, columns = level_decay(b_g, b_next, o_c, level)
            b_dP = tl.load(p_dP + square + o_square)
            b_Pl = tl.where(level_mask(o_c, level), b_dP, 0.0)
            b_dq += rows * dot(b_Pl, b_k * columns, PRECISION)
            b_up = dot(tl.trans(b_Pl), b_q * rows, PRECISION)
            tl.debug_barrier()
            b_dL = tl.load(p_dL + square + o_square)
            b_k = tl.load(p_k + row * K + o_in, mask=m_in, other=0.0).to(tl.float32)
            b_b = tl.load(p_b + row * K + o_in, mask=m_in, other=0.0).to(tl.float32)
            b_Ll = tl.where(level_mask(o_c, level), b_dL, 0.0)
            b_de += rows * dot(b_Ll, b_k * columns, PRECISION)
            b_dk += columns * dot_add(tl.trans(b_Ll), b_b * b_k * rows, b_up, PRECISION)
        tl.store(p_dq + row * K + o_in, b_dq.to(p_dq.dtype.element_ty), mask=m_in)
        tl.store(p_dk + row * K + o_in, (b_dk + b_b * b_de).to(p_dk.dtype.element_ty), mask=m_in)
        tl.store(p_db + row * K + o_in, (b_k * b_de).to(p_db.dtype.element_ty), mask=m_in)
        b_dg = tl.cumsum(b_q * b_dq + b_k * (b_b * b_de - b_dk), axis=0, reverse=True)
        b_dg += (tl.exp2(total) * b_SH + b_close)[None, :]
        b_dg = tl.where(b_graw < STRONGEST_STEP, 0.0, b_dg)
        tl.store(p_dg + row * K + o_in, b_dg.to(p_dg.dtype.element_ty), mask=m_in)
    else:
        middle = 0.5 * total
        x = tl.cumsum(b_g, axis=0) - middle[None, :]
        rows, columns = tl.exp2(x), tl.exp2(-x)
        half = tl.exp2(middle)[None, :]
        b_k = tl.load(p_k + row * K + o_in, mask=m_in, other=0.0).to(tl.float32)
        b_dk = b_dk * (columns * half)
        b_close = tl.sum(b_k * b_dk, axis=0) + tl.exp2(total) * b_SH
        b_right = b_k * columns
        b_de = rows * dot_add(b_dL, b_right, -b_de * half, PRECISION)
        b_dq = rows * dot_add(b_dP, b_right, b_dq * (scale * half), PRECISION)
        tl.store(p_dq + row * K + o_in, b_dq.to(p_dq.dtype.element_ty), mask=m_in)
        tl.debug_barrier()
        b_q = tl.load(p_q + row * K + o_in, mask=m_in, other=0.0).to(tl.float32)
        b_dg = b_q * b_dq
        b_up = dot(tl.trans(b_dP), b_q * rows, PRECISION)
        tl.debug_barrier()
        b_b = tl.load(p_b + row * K + o_in, mask=m_in, other=0.0).to(tl.float32)
        b_k = tl.load(p_k + row * K + o_in, mask=m_in, other=0.0).to(tl.float32)
        b_dk += columns * dot_add(tl.trans(b_dL), b_b * b_k * rows, b_up, PRECISION)
        tl.store(p_db + row * K + o_in, (b_k * b_de).to(p_db.dtype.element_ty), mask=m_in)
        tl.store(p_dk + row * K + o_in, (b_dk + b_b * b_de).to(p_dk.dtype.element_ty), mask=m_in)
        b_dg += b_k * (b_b * b_de - b_dk)
        b_dg = tl.cumsum(b_dg, axis=0, reverse=True) + b_close[None, :]
        b_graw = tl.load(p_g + row * K + o_in, mask=m_in, other=0.0)
        b_dg = tl.where(b_graw < STRONGEST_STEP, 0.0, b_dg)
        tl.store(p_dg + row * K + o_in, b_dg.to(p_dg.dtype.element_ty), mask=m_in)
