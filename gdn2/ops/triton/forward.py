"""Chunkwise forward in five kernels, each parallel over chunks and heads except the third-but-one, `scan`.

The symbols are those of gdn2/README.md. Of a chunk that starts from the state S:

1. `scores`: P and L, the decayed inner products of queries and erase vectors with keys; E+ = e exp(G), Q+ = scale q
   exp(G), K- = k exp(G_C - G), the carry exp(G_C).
2. `invert`: M = (I + L)^-1 by merging pairs of blocks.
3. `transition`: with W = M E+ and U0 = M z the chunk is an affine map of its state, so that one product a chunk is all
   that has to wait for the chunk before:
       S' = carry * S + A S + B,   A = -K-^T W,   B = K-^T U0;      o = R S + O,   R = Q+ - P W,   O = P U0.
   O goes to the output at once.
4. `scan`: the states S of all chunks, one program a sequence, head and block of value columns.
5. `output`: o = R S + O.

Programs lie in the order of memory (`place`); `slot` = chunk * H + head numbers the scratch tiles, each contiguous.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gdn2.ops.triton.decay import dot, dot_add, joined, level_decay, level_mask, log2_decay, place


@triton.jit(do_not_specialize=["H"])
def scores_kernel(
    p_q, p_k, p_b, p_g, p_P, p_L, p_E, p_Q, p_K, p_carry, p_by_level, p_starts, p_lengths, scale, H,
    K: tl.constexpr, KP: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, MAX_RANGE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """With one reference a chunk; chunks that lose too much for it are marked in p_by_level and done again by
    `scores_by_level_kernel`."""
    slot, i_n, i_h, _ = place(H, 1)
    start, length = tl.load(p_starts + i_n), tl.load(p_lengths + i_n)
    row, lowest = start * H + i_h, 0.0
    o_c = tl.arange(0, C)
    b_P = tl.zeros([C, C], dtype=tl.float32)
    b_L = tl.zeros([C, C], dtype=tl.float32)
    for k0 in range(0, KP, BK):
        o_k = k0 + tl.arange(0, BK)
        o_in = o_c[:, None] * (H * K) + o_k[None, :]
        m_in = (o_c < length)[:, None] & (o_k < K)[None, :]
        b_g = log2_decay(tl.load(p_g + row * K + o_in, mask=m_in, other=0.0))
        total = tl.sum(b_g, axis=0)
        lowest = tl.minimum(lowest, tl.min(total))
        middle = 0.5 * total
        x = tl.cumsum(b_g, axis=0) - middle[None, :]
        up, down, half = tl.exp2(x), tl.exp2(-x), tl.exp2(middle)[None, :]
        tl.store(p_carry + slot * KP + o_k, tl.exp2(total))
        o_out = o_c[:, None] * KP + o_k[None, :]
        b_k = tl.load(p_k + row * K + o_in, mask=m_in, other=0.0).to(tl.float32)
        b_right = b_k * down
        tl.store(p_K + slot * (C * KP) + o_out, (b_right * half).to(p_K.dtype.element_ty))
        b_right = tl.trans(b_right)
        b_q = tl.load(p_q + row * K + o_in, mask=m_in, other=0.0).to(tl.float32) * (scale * up)
        tl.store(p_Q + slot * (C * KP) + o_out, (b_q * half).to(p_Q.dtype.element_ty))
        b_P = dot_add(b_q, b_right, b_P, PRECISION)
        b_e = tl.load(p_b + row * K + o_in, mask=m_in, other=0.0).to(tl.float32) * b_k * up
        tl.store(p_E + slot * (C * KP) + o_out, (b_e * half).to(p_E.dtype.element_ty))
        b_L = dot_add(b_e, b_right, b_L, PRECISION)
    tl.store(p_by_level + slot, (lowest < MAX_RANGE).to(tl.int32))
    b_P = tl.where(o_c[:, None] >= o_c[None, :], b_P, 0.0)
    b_L = tl.where(o_c[:, None] > o_c[None, :], b_L, 0.0)
    o_out = o_c[:, None] * C + o_c[None, :]
    tl.store(p_P + slot * (C * C) + o_out, b_P.to(p_P.dtype.element_ty))
    tl.store(p_L + slot * (C * C) + o_out, b_L)


@triton.jit(do_not_specialize=["H"])
def scores_by_level_kernel(
    p_q, p_k, p_b, p_g, p_P, p_L, p_E, p_Q, p_K, p_carry, p_by_level, p_starts, p_lengths, scale, H,  # noqa: ARG001
    K: tl.constexpr, KP: tl.constexpr, C: tl.constexpr, LOG_C: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """For any decay: see decay.py. Passes over chunks that are not marked."""
    slot, i_n, i_h, _ = place(H, 1)
    if tl.load(p_by_level + slot) == 0:
        return
    start, length = tl.load(p_starts + i_n), tl.load(p_lengths + i_n)
    row, o_c = start * H + i_h, tl.arange(0, C)
    b_P = tl.zeros([C, C], dtype=tl.float32)
    b_L = tl.zeros([C, C], dtype=tl.float32)
    for level in tl.static_range(2, LOG_C + 1):
        b_Pl = tl.zeros([C, C], dtype=tl.float32)
        b_Ll = tl.zeros([C, C], dtype=tl.float32)
        for k0 in range(0, KP, BK):
            o_k = k0 + tl.arange(0, BK)
            o_in = o_c[:, None] * (H * K) + o_k[None, :]
            m_in, m_next = _masks(o_c, o_k, length, C, K)
            b_g = log2_decay(tl.load(p_g + row * K + o_in, mask=m_in, other=0.0))
            b_next = log2_decay(tl.load(p_g + row * K + (o_in + H * K), mask=m_next, other=0.0))
            up, down = level_decay(b_g, b_next, o_c, level)
            b_k = tl.load(p_k + row * K + o_in, mask=m_in, other=0.0).to(tl.float32)
            b_q = tl.load(p_q + row * K + o_in, mask=m_in, other=0.0).to(tl.float32) * (scale * up)
            b_e = tl.load(p_b + row * K + o_in, mask=m_in, other=0.0).to(tl.float32) * b_k * up
            b_k *= down
            if level < LOG_C:
                b_Pl = dot_add(b_q, tl.trans(b_k), b_Pl, PRECISION)
                b_Ll = dot_add(b_e, tl.trans(b_k), b_Ll, PRECISION)
            else:  # the whole chunk: decay from its start and to its end
                o_out = slot * (C * KP) + o_c[:, None] * KP + o_k[None, :]
                tl.store(p_E + o_out, b_e.to(p_E.dtype.element_ty))
                tl.store(p_Q + o_out, b_q.to(p_Q.dtype.element_ty))
                tl.store(p_K + o_out, b_k.to(p_K.dtype.element_ty))
        if level < LOG_C:
            b_P += tl.where(level_mask(o_c, level), b_Pl, 0.0)
            b_L += tl.where(level_mask(o_c, level), b_Ll, 0.0)
    b_P = tl.where(o_c[:, None] >= o_c[None, :], b_P, 0.0)
    b_L = tl.where(o_c[:, None] > o_c[None, :], b_L, 0.0)
    o_out = o_c[:, None] * C + o_c[None, :]
    tl.store(p_P + slot * (C * C) + o_out, b_P.to(p_P.dtype.element_ty))
    tl.store(p_L + slot * (C * C) + o_out, b_L)


@triton.jit
def _masks(o_c, o_k, length, C: tl.constexpr, K: tl.constexpr):
    """Of a chunk's rows, and of the rows behind each of them in the chunk."""
    m_k = (o_k < K)[None, :]
    return (o_c < length)[:, None] & m_k, ((o_c + 1 < length) & (o_c + 1 < C))[:, None] & m_k


@triton.jit
def invert_kernel(p_L, p_M, C: tl.constexpr, LOG_C: tl.constexpr, PRECISION: tl.constexpr):
    """M = (I + L)^-1: for blocks of 1, 2, 4, ... tokens, M <- M - M X M with X the part of L that joins their pairs.
    Up to blocks of 16 the C / 16 blocks on the diagonal are handled by themselves."""
    square = tl.program_id(0).to(tl.int64) * (C * C)
    o_c, o_a, o_s = tl.arange(0, C), tl.arange(0, C // 16), tl.arange(0, 16)
    o_row = o_a[:, None, None] * 16 + o_s[None, :, None]
    b_L = tl.load(p_L + square + o_row * C + o_a[:, None, None] * 16 + o_s[None, None, :])
    b_M = tl.where((o_s[:, None] == o_s[None, :])[None, :, :], 1.0, 0.0) - tl.where(
        joined(o_s, 1)[None, :, :], b_L, 0.0
    )
    for level in tl.static_range(1, 4):
        b_X = tl.where(joined(o_s, 1 << level)[None, :, :], b_L, 0.0)
        b_M -= dot(dot(b_M, b_X, PRECISION), b_M, PRECISION)
    m_own = o_a[:, None, None, None] == o_a[None, None, :, None]
    b_M = tl.reshape(tl.where(m_own, b_M[:, :, None, :], 0.0), [C, C])
    o_tile = o_c[:, None] * C + o_c[None, :]
    if C > 16:
        b_L = tl.load(p_L + square + o_tile)
        for level in tl.static_range(4, LOG_C):
            b_X = tl.where(joined(o_c, 1 << level), b_L, 0.0)
            b_M -= dot(dot(b_M, b_X, PRECISION), b_M, PRECISION)
    tl.store(p_M + square + o_tile, b_M.to(p_M.dtype.element_ty))


@triton.jit(do_not_specialize=["H"])
def transition_kernel(
    p_M, p_P, p_E, p_Q, p_K, p_v, p_w, p_A, p_B, p_R, p_o, p_do, p_starts, p_lengths, H,
    V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr, C: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    BLOCKS: tl.constexpr, FOR_BACKWARD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One of BLOCKS blocks of BN columns of [W, U0]. R may lie where Q+ does. For the backward pass p_R receives R^T do
    [KP, VP] instead of R, and p_o nothing."""
    slot, i_n, i_h, i_b = place(H, BLOCKS)
    start, length = tl.load(p_starts + i_n), tl.load(p_lengths + i_n)
    row, o_c = start * H + i_h, tl.arange(0, C)
    o_square = o_c[:, None] * C + o_c[None, :]
    b_M = tl.load(p_M + slot * (C * C) + o_square)
    if i_b < KP // BN:
        o_n = i_b * BN + tl.arange(0, BN)
        o_key = o_c[:, None] * KP + o_n[None, :]
        b_W = dot(b_M, tl.load(p_E + slot * (C * KP) + o_key), PRECISION)
        for k0 in range(0, KP, BK):
            o_k = k0 + tl.arange(0, BK)
            b_K = tl.load(p_K + slot * (C * KP) + (o_c[None, :] * KP + o_k[:, None]))
            b_A = -dot(b_K, b_W, PRECISION)
            o_A = o_k[:, None] * KP + o_n[None, :]
            tl.store(p_A + slot * (KP * KP) + o_A, b_A.to(p_A.dtype.element_ty))
        b_P = tl.load(p_P + slot * (C * C) + o_square)
        b_R = tl.load(p_Q + slot * (C * KP) + o_key).to(tl.float32) - dot(b_P, b_W, PRECISION)
        if FOR_BACKWARD:
            for v0 in range(0, VP, BN):
                o_v = v0 + tl.arange(0, BN)
                o_do = o_c[:, None] * (H * V) + o_v[None, :]
                m_do = (o_c < length)[:, None] & (o_v < V)[None, :]
                b_do = tl.load(p_do + row * V + o_do, mask=m_do, other=0.0)
                b_out = dot(tl.trans(b_R), b_do, PRECISION)
                o_out = o_n[:, None] * VP + o_v[None, :]
                tl.store(p_R + slot * (KP * VP) + o_out, b_out.to(p_R.dtype.element_ty))
        else:
            tl.store(p_R + slot * (C * KP) + o_key, b_R.to(p_R.dtype.element_ty))
    else:
        o_n = (i_b - KP // BN) * BN + tl.arange(0, BN)
        o_in = o_c[:, None] * (H * V) + o_n[None, :]
        m_in = (o_c < length)[:, None] & (o_n < V)[None, :]
        b_z = tl.load(p_v + row * V + o_in, mask=m_in, other=0.0).to(tl.float32)
        b_U = dot(b_M, b_z * tl.load(p_w + row * V + o_in, mask=m_in, other=0.0), PRECISION)
        for k0 in range(0, KP, BK):
            o_k = k0 + tl.arange(0, BK)
            b_K = tl.load(p_K + slot * (C * KP) + (o_c[None, :] * KP + o_k[:, None]))
            b_B = dot(b_K, b_U, PRECISION)
            o_B = o_k[:, None] * VP + o_n[None, :]
            tl.store(p_B + slot * (KP * VP) + o_B, b_B.to(p_B.dtype.element_ty))
        if not FOR_BACKWARD:
            b_O = dot(tl.load(p_P + slot * (C * C) + o_square), b_U, PRECISION)
            tl.store(p_o + row * V + o_in, b_O.to(p_o.dtype.element_ty), mask=m_in)


@triton.jit(do_not_specialize=["H", "N"])
def scan_kernel(
    p_A, p_B, p_carry, p_S, p_first, p_last, p_offsets, H, N,
    p_R, p_H, p_after, p_before,
    K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr, BV: tl.constexpr, KB: tl.constexpr,
    BOTH_WAYS: tl.constexpr, HAS_FIRST: tl.constexpr, HAS_AFTER: tl.constexpr, PRECISION: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """The states S of all chunks, from p_first to p_last. BOTH_WAYS: programs behind those of the N sequences go in
    reverse, from p_after to p_before, for the adjoints H that the gradients need."""
    _slot, i_n, i_h, i_v = place(H, VP // BV)
    if BOTH_WAYS:  # noqa: SIM102 (a compile-time condition)
        if i_n >= N:
            _scan(
                p_A, p_R, p_carry, p_H, p_after, p_before, p_offsets, H, i_v, i_h, i_n - N,
                K, V, KP, VP, BV, KB, HAS_AFTER, True, PRECISION, STAGES,
            )  # fmt: skip
            return
    _scan(
        p_A, p_B, p_carry, p_S, p_first, p_last, p_offsets, H, i_v, i_h, i_n,
        K, V, KP, VP, BV, KB, HAS_FIRST, False, PRECISION, STAGES,
    )  # fmt: skip


@triton.jit
def _scan(
    p_A, p_B, p_carry, p_S, p_first, p_last, p_offsets, H, i_v, i_h, i_n,
    K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr, BV: tl.constexpr, KB: tl.constexpr,
    HAS_FIRST: tl.constexpr, REVERSE: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """S' = carry * S + A S + B over the chunks of a sequence; S of each chunk to p_S, the last S' to p_last.

    In reverse the same recursion with A^T, from the last chunk to the first: the adjoint of the state behind each
    chunk. Key rows lie in KP / KB (1 or 2) register tiles. S may lie where B does: a chunk's S is stored behind the
    product, for whose operands all threads have met since they read B.
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
    for step in tl.range(0, end - begin, num_stages=STAGES):
        slot = ((end - 1 - step) if REVERSE else (begin + step)).to(tl.int64) * H + i_h
        tile = slot * (KP * VP)
        p_tile = p_A + slot * (KP * KP) + o_A
        b_A = tl.load(p_tile)
        b_B0 = tl.load(p_B + tile + o_S).to(tl.float32)
        b_carry = tl.load(p_carry + slot * KP + o_k)
        low0 = b_S0.to(p_S.dtype.element_ty)
        b_S0 = dot_add(b_A, low0, b_S0 * b_carry[:, None] + b_B0, PRECISION)
        if KP > KB:
            low1 = b_S1.to(p_S.dtype.element_ty)
            b_B1 = tl.load(p_B + tile + o_S + KB * VP).to(tl.float32)
            b_carry = tl.load(p_carry + slot * KP + KB + o_k)
            upper, lower = (KB * KP, KB) if REVERSE else (KB, KB * KP)
            b_S0 = dot_add(tl.load(p_tile + upper), low1, b_S0, PRECISION)
            b_S1 = dot_add(tl.load(p_tile + lower), low0, b_S1 * b_carry[:, None] + b_B1, PRECISION)
            b_S1 = dot_add(tl.load(p_tile + KB * KP + KB), low1, b_S1, PRECISION)
            tl.store(p_S + tile + o_S + KB * VP, low1)
        tl.store(p_S + tile + o_S, low0)
    tl.store(p_last + state + o_state, b_S0, mask=m_0)
    if KP > KB:
        tl.store(p_last + state + o_state + KB * V, b_S1, mask=m_1)


@triton.jit(do_not_specialize=["H"])
def output_kernel(
    p_R, p_S, p_o, p_starts, p_lengths, H,
    V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Adds R S to the O that `transition_kernel` left in p_o."""
    slot, i_n, i_h, i_v = place(H, VP // BV)
    start, length = tl.load(p_starts + i_n), tl.load(p_lengths + i_n)
    o_c, o_v = tl.arange(0, C), i_v * BV + tl.arange(0, BV)
    row, o_out = start * H + i_h, o_c[:, None] * (H * V) + o_v[None, :]
    m_out = (o_c < length)[:, None] & (o_v < V)[None, :]
    b_o = tl.load(p_o + row * V + o_out, mask=m_out, other=0.0).to(tl.float32)
    for k0 in range(0, KP, BK):
        o_k = k0 + tl.arange(0, BK)
        b_R = tl.load(p_R + slot * (C * KP) + (o_c[:, None] * KP + o_k[None, :]))
        b_S = tl.load(p_S + slot * (KP * VP) + (o_k[:, None] * VP + o_v[None, :]))
        b_o = dot_add(b_R, b_S, b_o, PRECISION)
    tl.store(p_o + row * V + o_out, b_o.to(p_o.dtype.element_ty), mask=m_out)
