"""The kernel of what a chunk contributes before its state is known: the chunk becomes an affine map of that state.

The symbols are those of gdn2/README.md. A program computes for one chunk of one head:

1. scores: P and L, the decayed inner products of queries and erase vectors with keys; E+ = e exp(G), Q+ = scale q
   exp(G), K- = k exp(G_C - G), and the carry exp(G_C);
2. inverse: M = (I + L)^-1, by merging pairs of blocks;
3. transition: with W = M E+ and U0 = M z
       S' = carry * S + A S + B,   A = -K-^T W,   B = K-^T U0;      o = R S + O,   R = Q+ - P W,   O = P U0.
   O goes to the output at once. Forms other than maps stop earlier (forms.py).

The steps hand tiles to each other through scratch memory, most of which is still in the cache when it is read. Inputs
and results are marked as the first to leave the cache, and what is read again as the last.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gdn2.ops.triton.decay import (
    dot,
    dot_add,
    level_decay,
    level_mask,
    log2_decay,
    place,
)
from gdn2.ops.triton.inverse import inverse, inverse_in_memory


@triton.jit(do_not_specialize=["H"])
def prepare_kernel(
    p_q, p_k, p_b, p_g, p_v, p_w, p_do, p_P, p_L, p_M, p_E, p_Q, p_K, p_carry, p_by_level, p_A, p_B, p_R, p_o,
    p_starts, p_lengths, scale, H,
    K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr, C: tl.constexpr, LOG_C: tl.constexpr,
    BK: tl.constexpr, BN: tl.constexpr, BT: tl.constexpr, MAX_RANGE: tl.constexpr, BY_LEVEL: tl.constexpr,
    FOR_BACKWARD: tl.constexpr, WRITES: tl.constexpr, LATE: tl.constexpr, VALUE_FIRST: tl.constexpr,
    KEPT: tl.constexpr, PRECISION: tl.constexpr, OF_INVERSE: tl.constexpr,
):  # fmt: skip
    """One program for each chunk and head.

    Chunks that decay too much for one reference are marked in p_by_level and left to a second launch, BY_LEVEL. R may
    overwrite Q+. FOR_BACKWARD: p_R receives R^T do [KP, VP] instead of R, and p_o is None. WRITES: p_A receives W,
    which may overwrite E+, and p_B U0; LATE, only with WRITES: no R and O; VALUE_FIRST, only with WRITES: U0 is written
    transposed. KEPT: L, M and P stay in registers, except what other kernels read.
    """
    slot, i_n, i_h, _ = place(H, 1)
    if BY_LEVEL:  # noqa: SIM102 (a compile-time condition)
        if tl.load(p_by_level + slot) == 0:
            return
    start, length = tl.load(p_starts + i_n), tl.load(p_lengths + i_n)
    row = start * H + i_h
    p_q, p_k, p_b, p_g = p_q + row * K, p_k + row * K, p_b + row * K, p_g + row * K
    p_P, p_L, p_M = p_P + slot * (C * C), p_L + slot * (C * C), p_M + slot * (C * C)
    p_E, p_Q, p_K = p_E + slot * (C * KP), p_Q + slot * (C * KP), p_K + slot * (C * KP)
    if BY_LEVEL:
        _scores_by_level(p_q, p_k, p_b, p_g, p_P, p_L, p_E, p_Q, p_K, length, scale, H, K, KP, C, LOG_C, BK, PRECISION)
    else:
        p_carry += slot * KP
        lowest, b_P, b_L = _scores(
            p_q, p_k, p_b, p_g, p_E, p_Q, p_K, p_carry, length, scale, H, K, KP, C, BK, PRECISION
        )
        tl.store(p_by_level + slot, (lowest < MAX_RANGE).to(tl.int32))
        if lowest < MAX_RANGE:
            return
    b_M, b_kept = None, None
    if KEPT:
        o_c = tl.arange(0, C)
        o_square = o_c[:, None] * C + o_c[None, :]
        b_kept = tl.where(o_c[:, None] >= o_c[None, :], b_P, 0.0).to(p_P.dtype.element_ty)
        if FOR_BACKWARD or LATE:
            tl.store(p_P + o_square, b_kept)
        b_M = inverse(tl.where(o_c[:, None] > o_c[None, :], b_L, 0.0), C, OF_INVERSE).to(p_M.dtype.element_ty)
        if FOR_BACKWARD:
            tl.store(p_M + o_square, b_M)
    else:
        if not BY_LEVEL:
            _store_scores(p_P, p_L, b_P, b_L, tl.arange(0, C), C)
        tl.debug_barrier()  # here and below: the next step reads what other threads of the program have written
        inverse_in_memory(p_L, p_M, C, OF_INVERSE)
    tl.debug_barrier()
    p_R += slot * (KP * VP if FOR_BACKWARD else C * KP)
    p_A += slot * ((C if WRITES else KP) * KP)
    p_B += slot * ((C if WRITES else KP) * VP)
    p_v, p_w = p_v + row * V, p_w + row * V
    p_do, p_o = (p_do + row * V, p_o) if FOR_BACKWARD else (p_do, p_o + row * V)
    for n0 in tl.static_range(0, max(KP, VP), BN):
        _columns(
            n0, p_M, p_P, p_E, p_Q, p_K, p_v, p_w, p_do, p_A, p_B, p_R, p_o, length, H, b_M, b_kept,
            V, KP, VP, C, BN, BT, FOR_BACKWARD, WRITES, LATE, VALUE_FIRST, KEPT, PRECISION,
        )  # fmt: skip


@triton.jit
def _scores(
    p_q, p_k, p_b, p_g, p_E, p_Q, p_K, p_carry, length, scale, H,
    K: tl.constexpr, KP: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The first step with one reference; returns the lowest log2-decay of a channel, and P and L with all pairs."""
    lowest, o_c = 0.0, tl.arange(0, C)
    b_P = tl.zeros([C, C], dtype=tl.float32)
    b_L = tl.zeros([C, C], dtype=tl.float32)
    for k0 in range(0, KP, BK):
        o_k = k0 + tl.arange(0, BK)
        o_in = o_c[:, None] * (H * K) + o_k[None, :]
        m_in = (o_c < length)[:, None] & (o_k < K)[None, :]
        b_g = log2_decay(tl.load(p_g + o_in, mask=m_in, other=0.0, eviction_policy="evict_first"))
        total = tl.sum(b_g, axis=0)
        lowest = tl.minimum(lowest, tl.min(total))
        middle = 0.5 * total
        x, half = tl.cumsum(b_g, axis=0) - middle[None, :], tl.exp2(middle)[None, :]
        tl.store(p_carry + o_k, tl.exp2(total))
        up, down = tl.exp2(x), tl.exp2(-x)
        o_out = o_c[:, None] * KP + o_k[None, :]
        b_k = tl.load(p_k + o_in, mask=m_in, other=0.0, eviction_policy="evict_first").to(tl.float32)
        b_right = b_k * down
        tl.store(p_K + o_out, (b_right * half).to(p_K.dtype.element_ty), eviction_policy="evict_last")
        b_right = tl.trans(b_right)
        b_e = tl.load(p_b + o_in, mask=m_in, other=0.0, eviction_policy="evict_first").to(tl.float32) * b_k * up
        tl.store(p_E + o_out, (b_e * half).to(p_E.dtype.element_ty), eviction_policy="evict_last")
        b_L = dot_add(b_e, b_right, b_L, PRECISION)
        b_q = tl.load(p_q + o_in, mask=m_in, other=0.0, eviction_policy="evict_first").to(tl.float32) * (scale * up)
        tl.store(p_Q + o_out, (b_q * half).to(p_Q.dtype.element_ty), eviction_policy="evict_last")
        b_P = dot_add(b_q, b_right, b_P, PRECISION)
    return lowest, b_P, b_L


@triton.jit
def _scores_by_level(
    p_q, p_k, p_b, p_g, p_P, p_L, p_E, p_Q, p_K, length, scale, H,
    K: tl.constexpr, KP: tl.constexpr, C: tl.constexpr, LOG_C: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The first step for any decay, by levels (decay.py)."""
    o_c = tl.arange(0, C)
    b_P = tl.zeros([C, C], dtype=tl.float32)
    b_L = tl.zeros([C, C], dtype=tl.float32)
    for level in tl.static_range(2, LOG_C + 1):
        b_Pl = tl.zeros([C, C], dtype=tl.float32)
        b_Ll = tl.zeros([C, C], dtype=tl.float32)
        for k0 in range(0, KP, BK):
            o_k = k0 + tl.arange(0, BK)
            o_in = o_c[:, None] * (H * K) + o_k[None, :]
            m_k = (o_k < K)[None, :]
            m_in, m_next = (o_c < length)[:, None] & m_k, ((o_c + 1 < length) & (o_c + 1 < C))[:, None] & m_k
            b_g = log2_decay(tl.load(p_g + o_in, mask=m_in, other=0.0))
            b_next = log2_decay(tl.load(p_g + (o_in + H * K), mask=m_next, other=0.0))  # the next rows
            up, down = level_decay(b_g, b_next, o_c, level)
            b_k = tl.load(p_k + o_in, mask=m_in, other=0.0).to(tl.float32)
            b_q = tl.load(p_q + o_in, mask=m_in, other=0.0).to(tl.float32) * (scale * up)
            b_e = tl.load(p_b + o_in, mask=m_in, other=0.0).to(tl.float32) * b_k * up
            b_k *= down
            if level < LOG_C:
                b_Pl = dot_add(b_q, tl.trans(b_k), b_Pl, PRECISION)
                b_Ll = dot_add(b_e, tl.trans(b_k), b_Ll, PRECISION)
            else:  # the whole chunk: decay from its start and to its end
                o_out = o_c[:, None] * KP + o_k[None, :]
                tl.store(p_E + o_out, b_e.to(p_E.dtype.element_ty))
                tl.store(p_Q + o_out, b_q.to(p_Q.dtype.element_ty))
                tl.store(p_K + o_out, b_k.to(p_K.dtype.element_ty))
        if level < LOG_C:
            b_P += tl.where(level_mask(o_c, level), b_Pl, 0.0)
            b_L += tl.where(level_mask(o_c, level), b_Ll, 0.0)
    _store_scores(p_P, p_L, b_P, b_L, o_c, C)


@triton.jit
def _store_scores(p_P, p_L, b_P, b_L, o_c, C: tl.constexpr):
    o_out = o_c[:, None] * C + o_c[None, :]
    b_P = tl.where(o_c[:, None] >= o_c[None, :], b_P, 0.0)
    tl.store(p_P + o_out, b_P.to(p_P.dtype.element_ty))
    tl.store(p_L + o_out, tl.where(o_c[:, None] > o_c[None, :], b_L, 0.0))


@triton.jit
def _columns(
    n0: tl.constexpr, p_M, p_P, p_E, p_Q, p_K, p_v, p_w, p_do, p_A, p_B, p_R, p_o, length, H, b_M, b_P,
    V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr, C: tl.constexpr, BN: tl.constexpr, BT: tl.constexpr,
    FOR_BACKWARD: tl.constexpr, WRITES: tl.constexpr, LATE: tl.constexpr, VALUE_FIRST: tl.constexpr,
    KEPT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """BN columns of W, from which A and R (or R^T do) follow, and of U0, from which B and O follow."""
    o_c, o_n = tl.arange(0, C), n0 + tl.arange(0, BN)
    o_square, o_key = o_c[:, None] * C + o_c[None, :], o_c[:, None] * KP + o_n[None, :]
    if not KEPT:
        b_M = tl.load(p_M + o_square)
        if not LATE:
            b_P = tl.load(p_P + o_square)
    if n0 < KP:
        b_W = dot(b_M, tl.load(p_E + o_key), PRECISION).to(p_A.dtype.element_ty)
    if n0 < VP:
        o_in, m_in = o_c[:, None] * (H * V) + o_n[None, :], (o_c < length)[:, None] & (o_n < V)[None, :]
        b_z = tl.load(p_v + o_in, mask=m_in, other=0.0, eviction_policy="evict_first").to(tl.float32)
        b_z *= tl.load(p_w + o_in, mask=m_in, other=0.0, eviction_policy="evict_first")
        b_U = dot(b_M, b_z, PRECISION).to(p_B.dtype.element_ty)
    if WRITES:
        tl.debug_barrier()  # W may overwrite E+
        if n0 < KP:
            tl.store(p_A + o_key, b_W)
        if n0 < VP:
            o_U = (o_n[None, :] * C + o_c[:, None]) if VALUE_FIRST else (o_c[:, None] * VP + o_n[None, :])
            tl.store(p_B + o_U, b_U)
    if n0 < KP and not LATE:
        b_R = tl.load(p_Q + o_key).to(tl.float32) - dot(b_P, b_W, PRECISION)
        if FOR_BACKWARD:
            for v0 in range(0, VP, BN):
                o_v = v0 + tl.arange(0, BN)
                o_do, m_do = o_c[:, None] * (H * V) + o_v[None, :], (o_c < length)[:, None] & (o_v < V)[None, :]
                b_out = dot(tl.trans(b_R), tl.load(p_do + o_do, mask=m_do, other=0.0), PRECISION)
                tl.store(p_R + (o_n[:, None] * VP + o_v[None, :]), b_out.to(p_R.dtype.element_ty))
        else:
            tl.store(p_R + o_key, b_R.to(p_R.dtype.element_ty), eviction_policy="evict_first")
    if n0 < VP and not FOR_BACKWARD and not LATE:
        tl.store(
            p_o + o_in, dot(b_P, b_U, PRECISION).to(p_o.dtype.element_ty), mask=m_in, eviction_policy="evict_first"
        )
    for k0 in tl.range(0, 0 if WRITES else KP, BT, num_stages=1):
        o_k = k0 + tl.arange(0, BT)
        b_K = tl.load(p_K + (o_c[None, :] * KP + o_k[:, None]))
        if n0 < KP:
            b_A = -dot(b_K, b_W, PRECISION)
            tl.store(
                p_A + (o_k[:, None] * KP + o_n[None, :]), b_A.to(p_A.dtype.element_ty), eviction_policy="evict_first"
            )
        if n0 < VP:
            b_B = dot(b_K, b_U, PRECISION).to(p_B.dtype.element_ty)
            tl.store(p_B + (o_k[:, None] * VP + o_n[None, :]), b_B, eviction_policy="evict_first")
