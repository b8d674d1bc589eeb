"""The serial kernel for chunks that come as what they write (forms.py): two products of a chunk wait for each other.

VALUE_FIRST, for LATE only: a program keeps S^T [BV, KP]. The state is then the left operand of every product, which
matrix units take from registers, so that no step waits until shared memory is written; U0 comes transposed. Both ways
add up the same numbers in the same order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gdn2.ops.triton.decay import dot, dot_add, place


@triton.jit(do_not_specialize=["H"])
def scan_writes_kernel(
    p_W, p_U, p_K, p_R, p_P, p_carry, p_first, p_last, p_offsets, H, p_o, p_starts, p_lengths,
    K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr, C: tl.constexpr, BV: tl.constexpr,
    LATE: tl.constexpr, VALUE_FIRST: tl.constexpr, HAS_FIRST: tl.constexpr, PRECISION: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """One program for each sequence, head and BV value columns: outputs, and the last state.

    p_U has U0. LATE: p_R has Q+, and p_o is written; else p_R has R, and R S is added to the O in p_o.
    """
    _slot, i_n, i_h, i_v = place(H, VP // BV)
    begin, end = tl.load(p_offsets + i_n), tl.load(p_offsets + i_n + 1)
    o_c, o_k, o_v = tl.arange(0, C), tl.arange(0, KP), i_v * BV + tl.arange(0, BV)
    state = (i_n.to(tl.int64) * H + i_h) * (K * V)
    if VALUE_FIRST:
        o_state, m_state = o_k[None, :] * V + o_v[:, None], (o_k < K)[None, :] & (o_v < V)[:, None]
        b_S = tl.zeros([BV, KP], dtype=tl.float32)
    else:
        o_state, m_state = o_k[:, None] * V + o_v[None, :], (o_k < K)[:, None] & (o_v < V)[None, :]
        b_S = tl.zeros([KP, BV], dtype=tl.float32)
    if HAS_FIRST:
        b_S = tl.load(p_first + state + o_state, mask=m_state, other=0.0).to(tl.float32)
    start = tl.load(p_starts + begin, mask=begin < end, other=0)
    last_length = tl.load(p_lengths + end - 1, mask=begin < end, other=0)
    for step in tl.range(0, end - begin, num_stages=STAGES):
        slot = (begin + step).to(tl.int64) * H + i_h
        p_out = p_o + ((start + step * C) * H + i_h) * V + (o_c[:, None] * (H * V) + o_v[None, :])
        length = tl.where(step == end - begin - 1, last_length, C)
        m_out = (o_c < length)[:, None] & (o_v < V)[None, :]
        if VALUE_FIRST:
            b_S, b_o = _by_value(b_S, p_W, p_U, p_K, p_R, p_P, p_carry, slot, o_c, o_k, o_v, KP, VP, C, PRECISION)
        else:
            b_S, b_o = _by_key(b_S, p_W, p_U, p_K, p_R, p_P, p_carry, slot, o_c, o_k, o_v, KP, VP, C, LATE, PRECISION)
        if not LATE:
            b_o += tl.load(p_out, mask=m_out, other=0.0).to(tl.float32)
        tl.store(p_out, b_o.to(p_o.dtype.element_ty), mask=m_out)
    tl.store(p_last + state + o_state, b_S, mask=m_state)


@triton.jit
def _by_key(
    b_S, p_W, p_U, p_K, p_R, p_P, p_carry, slot, o_c, o_k, o_v,
    KP: tl.constexpr, VP: tl.constexpr, C: tl.constexpr, LATE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A chunk on S [KP, BV]: the next S, and R S or the outputs [C, BV]."""
    o_rows, o_columns = o_c[:, None] * KP + o_k[None, :], o_c[None, :] * KP + o_k[:, None]
    b_carry = tl.load(p_carry + slot * KP + o_k)[:, None]
    low = b_S.to(p_W.dtype.element_ty)
    b_U = tl.load(p_U + slot * (C * VP) + (o_c[:, None] * VP + o_v[None, :])).to(tl.float32)
    b_U = (b_U - dot(tl.load(p_W + slot * (C * KP) + o_rows), low, PRECISION)).to(low.dtype)
    b_S = dot_add(tl.load(p_K + slot * (C * KP) + o_columns), b_U, b_S * b_carry, PRECISION)
    b_o = dot(tl.load(p_R + slot * (C * KP) + o_rows), low, PRECISION)
    if LATE:
        b_o = dot_add(tl.load(p_P + slot * (C * C) + (o_c[:, None] * C + o_c[None, :])), b_U, b_o, PRECISION)
    return b_S, b_o


@triton.jit
def _by_value(
    b_S, p_W, p_U, p_K, p_Q, p_P, p_carry, slot, o_c, o_k, o_v,
    KP: tl.constexpr, VP: tl.constexpr, C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A chunk in the form `late` on S^T [BV, KP]: the next S^T, and the outputs [C, BV]."""
    o_rows, o_columns = o_c[:, None] * KP + o_k[None, :], o_c[None, :] * KP + o_k[:, None]
    b_carry = tl.load(p_carry + slot * KP + o_k)[None, :]
    low = b_S.to(p_W.dtype.element_ty)
    b_Q = tl.load(p_Q + slot * (C * KP) + o_columns)
    b_U = tl.load(p_U + slot * (C * VP) + (o_v[:, None] * C + o_c[None, :])).to(tl.float32)
    b_U = (b_U - dot(low, tl.load(p_W + slot * (C * KP) + o_columns), PRECISION)).to(low.dtype)
    b_S = dot_add(b_U, tl.load(p_K + slot * (C * KP) + o_rows), b_S * b_carry, PRECISION)
    b_o = dot(low, b_Q, PRECISION)
    b_o = dot_add(b_U, tl.load(p_P + slot * (C * C) + (o_c[None, :] * C + o_c[:, None])), b_o, PRECISION)
    return b_S, tl.trans(b_o)
