"""The kernel of the states of all chunks and of what they contribute to the outputs: the only serial one.

The symbols are those of gdn2/README.md. A chunk that starts from the state S, with A, B, carry, R and O prepared, gives
S' = carry * S + A S + B and o = R S + O. Only one product of a chunk has to wait for the chunk before it. One program
has a sequence, a head and a block of value columns; `slot` = chunk * H + head numbers the tiles of scratch memory.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gdn2.ops.triton.decay import dot_add, place


@triton.jit(do_not_specialize=["H", "N"])
def scan_kernel(
    p_A, p_B, p_carry, p_S, p_first, p_last, p_offsets, H, N,
    p_R, p_H, p_after, p_before, p_o, p_starts, p_lengths,
    K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr, C: tl.constexpr, BV: tl.constexpr,
    KB: tl.constexpr, BJ: tl.constexpr, BOTH_WAYS: tl.constexpr, WITH_OUTPUT: tl.constexpr, HAS_FIRST: tl.constexpr,
    HAS_AFTER: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """The states S of all chunks, from p_first to p_last.

    BOTH_WAYS: as many programs again go in reverse, from p_after to p_before, for the adjoints H that the gradients
    need. WITH_OUTPUT: R S is added to the O in p_o, and S is not kept. BJ: if S goes through memory, the number of its
    rows that a product takes at a time; 0: S stays in registers.
    """
    _slot, i_n, i_h, i_v = place(H, VP // BV)
    if BOTH_WAYS:  # noqa: SIM102 (a compile-time condition)
        if i_n >= N:
            _one_way(
                p_A, p_R, p_carry, p_H, p_after, p_before, p_offsets, H, i_v, i_h, i_n - N, None, None, None, None,
                K, V, KP, VP, C, BV, KB, BJ, HAS_AFTER, True, False, PRECISION, STAGES,
            )  # fmt: skip
            return
    _one_way(
        p_A, p_B, p_carry, p_S, p_first, p_last, p_offsets, H, i_v, i_h, i_n, p_R, p_o, p_starts, p_lengths,
        K, V, KP, VP, C, BV, KB, BJ, HAS_FIRST, False, WITH_OUTPUT, PRECISION, STAGES,
    )  # fmt: skip


@triton.jit
def _one_way(
    p_A, p_B, p_carry, p_S, p_first, p_last, p_offsets, H, i_v, i_h, i_n, p_R, p_o, p_starts, p_lengths,
    K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr, C: tl.constexpr, BV: tl.constexpr,
    KB: tl.constexpr, BJ: tl.constexpr, HAS_FIRST: tl.constexpr, REVERSE: tl.constexpr, WITH_OUTPUT: tl.constexpr,
    PRECISION: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """One direction of the scan, with S in registers or through memory."""
    if BJ > 0:
        _scan_through_memory(
            p_A, p_B, p_carry, p_S, p_first, p_last, p_offsets, H, i_v, i_h, i_n, p_R, p_o, p_starts, p_lengths,
            K, V, KP, VP, C, BV, BJ, HAS_FIRST, REVERSE, WITH_OUTPUT, PRECISION,
        )  # fmt: skip
    else:
        _scan(
            p_A, p_B, p_carry, p_S, p_first, p_last, p_offsets, H, i_v, i_h, i_n, p_R, p_o, p_starts, p_lengths,
            K, V, KP, VP, C, BV, KB, HAS_FIRST, REVERSE, WITH_OUTPUT, PRECISION, STAGES,
        )  # fmt: skip


@triton.jit
def _scan(
    p_A, p_B, p_carry, p_S, p_first, p_last, p_offsets, H, i_v, i_h, i_n, p_R, p_o, p_starts, p_lengths,
    K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr, C: tl.constexpr, BV: tl.constexpr,
    KB: tl.constexpr, HAS_FIRST: tl.constexpr, REVERSE: tl.constexpr, WITH_OUTPUT: tl.constexpr,
    PRECISION: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """S' = carry * S + A S + B over the chunks of a sequence, with S in registers.

    The S of each chunk goes to p_S, or as R S into the outputs; the last S' goes to p_last. In reverse it is the same
    recursion with A^T, from the last chunk to the first: the adjoint of the state after each chunk. Key rows are in
    KP / KB (1 or 2) register tiles. S may overwrite B: the S of a chunk is stored after the product, and to share the
    operands of that product all threads have met since they read B.
    """
    begin, end = tl.load(p_offsets + i_n), tl.load(p_offsets + i_n + 1)
    o_k, o_v = tl.arange(0, KB), i_v * BV + tl.arange(0, BV)
    state, o_state = (i_n.to(tl.int64) * H + i_h) * (K * V), o_k[:, None] * V + o_v[None, :]
    m_0, m_1 = (o_k < K)[:, None] & (o_v < V)[None, :], (o_k + KB < K)[:, None] & (o_v < V)[None, :]
    b_S0 = tl.zeros([KB, BV], dtype=tl.float32)
    b_S1 = tl.zeros([KB, BV], dtype=tl.float32)
    if HAS_FIRST:
        b_S0 = tl.load(p_first + state + o_state, mask=m_0, other=0.0).to(tl.float32)
        if KP > KB:
            b_S1 = tl.load(p_first + state + o_state + KB * V, mask=m_1, other=0.0).to(tl.float32)
    o_S = o_k[:, None] * VP + o_v[None, :]
    o_A = (o_k[None, :] * KP + o_k[:, None]) if REVERSE else (o_k[:, None] * KP + o_k[None, :])
    if WITH_OUTPUT:
        o_c = tl.arange(0, C)
        o_R, o_o = o_c[:, None] * KP + o_k[None, :], o_c[:, None] * (H * V) + o_v[None, :]
        start = tl.load(p_starts + begin, mask=begin < end, other=0)
        last_length = tl.load(p_lengths + end - 1, mask=begin < end, other=0)
    for step in tl.range(0, end - begin, num_stages=STAGES):
        slot = ((end - 1 - step) if REVERSE else (begin + step)).to(tl.int64) * H + i_h
        tile = slot * (KP * VP)
        p_tile = p_A + slot * (KP * KP) + o_A
        b_A = tl.load(p_tile)
        b_B0 = tl.load(p_B + tile + o_S).to(tl.float32)
        b_carry = tl.load(p_carry + slot * KP + o_k)
        low0 = b_S0.to(p_A.dtype.element_ty)
        b_S0 = dot_add(b_A, low0, b_S0 * b_carry[:, None] + b_B0, PRECISION)
        if KP > KB:
            low1 = b_S1.to(p_A.dtype.element_ty)
            b_B1 = tl.load(p_B + tile + o_S + KB * VP).to(tl.float32)
            b_carry = tl.load(p_carry + slot * KP + KB + o_k)
            upper, lower = (KB * KP, KB) if REVERSE else (KB, KB * KP)
            b_S0 = dot_add(tl.load(p_tile + upper), low1, b_S0, PRECISION)
            b_S1 = dot_add(tl.load(p_tile + lower), low0, b_S1 * b_carry[:, None] + b_B1, PRECISION)
            b_S1 = dot_add(tl.load(p_tile + KB * KP + KB), low1, b_S1, PRECISION)
        if WITH_OUTPUT:
            p_out = p_o + ((start + step * C) * H + i_h) * V + o_o
            length = tl.where(step == end - begin - 1, last_length, C)
            m_out = (o_c < length)[:, None] & (o_v < V)[None, :]
            b_o = tl.load(p_out, mask=m_out, other=0.0).to(tl.float32)
            b_o = dot_add(tl.load(p_R + slot * (C * KP) + o_R), low0, b_o, PRECISION)
            if KP > KB:
                b_o = dot_add(tl.load(p_R + slot * (C * KP) + o_R + KB), low1, b_o, PRECISION)
            tl.store(p_out, b_o.to(p_o.dtype.element_ty), mask=m_out)
        else:
            tl.store(p_S + tile + o_S, low0)
            if KP > KB:
                tl.store(p_S + tile + o_S + KB * VP, low1)
    tl.store(p_last + state + o_state, b_S0, mask=m_0)
    if KP > KB:
        tl.store(p_last + state + o_state + KB * V, b_S1, mask=m_1)


@triton.jit
def _scan_through_memory(
    p_A, p_B, p_carry, p_S, p_first, p_last, p_offsets, H, i_v, i_h, i_n, p_R, p_o, p_starts, p_lengths,
    K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr, C: tl.constexpr, BV: tl.constexpr,
    BJ: tl.constexpr, HAS_FIRST: tl.constexpr, REVERSE: tl.constexpr, WITH_OUTPUT: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The same as `_scan`, for shapes in which the product of A with a whole state would fill the registers.

    S goes to p_S first, with outputs or without, and comes back BJ rows at a time, for the columns of A that they meet.
    """
    begin, end = tl.load(p_offsets + i_n), tl.load(p_offsets + i_n + 1)
    o_k, o_v, o_j = tl.arange(0, KP), i_v * BV + tl.arange(0, BV), tl.arange(0, BJ)
    p_state = (i_n.to(tl.int64) * H + i_h) * (K * V) + o_k[:, None] * V + o_v[None, :]
    m_state = (o_k < K)[:, None] & (o_v < V)[None, :]
    b_S = tl.zeros([KP, BV], dtype=tl.float32)
    if HAS_FIRST:
        b_S = tl.load(p_first + p_state, mask=m_state, other=0.0).to(tl.float32)
    for step in tl.range(0, end - begin, num_stages=1):
        chunk = (end - 1 - step) if REVERSE else (begin + step)
        slot = chunk.to(tl.int64) * H + i_h
        p_tile = p_S + slot * (KP * VP) + o_v[None, :]
        b_B = tl.load(p_B + slot * (KP * VP) + (o_k[:, None] * VP + o_v[None, :])).to(tl.float32)
        tl.debug_barrier()  # S may overwrite B
        tl.store(p_tile + o_k[:, None] * VP, b_S.to(p_S.dtype.element_ty))
        tl.debug_barrier()
        b_S = b_S * tl.load(p_carry + slot * KP + o_k)[:, None] + b_B
        for j0 in tl.range(0, KP, BJ, num_stages=1):
            o_A = ((j0 + o_j)[None, :] * KP + o_k[:, None]) if REVERSE else (o_k[:, None] * KP + (j0 + o_j)[None, :])
            b_part = tl.load(p_tile + (j0 + o_j)[:, None] * VP)
            b_S = dot_add(tl.load(p_A + slot * (KP * KP) + o_A), b_part, b_S, PRECISION)
        if WITH_OUTPUT:
            o_c = tl.arange(0, C)
            m_out = (o_c < tl.load(p_lengths + chunk))[:, None] & (o_v < V)[None, :]
            p_out = p_o + (tl.load(p_starts + chunk) * H + i_h) * V + (o_c[:, None] * (H * V) + o_v[None, :])
            b_o = tl.load(p_out, mask=m_out, other=0.0).to(tl.float32)
            for j0 in tl.range(0, KP, BJ, num_stages=1):
                b_R = tl.load(p_R + slot * (C * KP) + (o_c[:, None] * KP + (j0 + o_j)[None, :]))
                b_o = dot_add(b_R, tl.load(p_tile + (j0 + o_j)[:, None] * VP), b_o, PRECISION)
            tl.store(p_out, b_o.to(p_o.dtype.element_ty), mask=m_out)
    tl.store(p_last + p_state, b_S, mask=m_state)
