"""The inverse M = (I + L)^-1 of a chunk's unit lower triangular matrix, by merging pairs of blocks.

L has what erase vectors read of earlier keys (gdn2/README.md); merging is as accurate as substitution.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gdn2.ops.triton.decay import dot, joined


@triton.jit
def inverse_in_memory(p_L, p_M, C: tl.constexpr, PRECISION: tl.constexpr):
    """M = (I + L)^-1 for C of 32 or 64.

    For blocks of 1, 2, 4, ... tokens M becomes M - M X M, where X is the part of L that joins pairs of blocks. The
    C / 16 blocks on the diagonal come first, each by itself, then their pairs, then the two halves.
    """
    o_a, o_s = tl.arange(0, C // 16), tl.arange(0, 16)
    o_row = (o_a[:, None] * 16 + o_s[None, :])[:, :, None] * C
    b_L = tl.load(p_L + o_row + (o_a[:, None, None] * 16 + o_s[None, None, :]))
    b_M = tl.where((o_s[:, None] == o_s[None, :])[None, :, :], 1.0, 0.0) - tl.where(
        joined(o_s, 1)[None, :, :], b_L, 0.0
    )
    for level in tl.static_range(1, 4):
        b_X = tl.where(joined(o_s, 1 << level)[None, :, :], b_L, 0.0)
        b_M -= dot(dot(b_M, b_X, PRECISION), b_M, PRECISION)
    N: tl.constexpr = C // 32
    o_2, o_n, o_t = tl.arange(0, 2), tl.arange(0, N), tl.arange(0, 32)
    m_own = o_2[None, :, None, None, None] == o_2[None, None, None, :, None]
    b_M = tl.reshape(b_M, [N, 2, 16, 1, 16])
    b_M = tl.reshape(tl.where(m_own, b_M, 0.0), [N, 32, 32])
    o_32 = (o_n[:, None] * 32 + o_t[None, :])[:, :, None] * C + (o_n[:, None, None] * 32 + o_t[None, None, :])
    b_X = tl.where(joined(o_t, 16)[None, :, :], tl.load(p_L + o_32), 0.0)
    b_M -= dot(dot(b_M, b_X, PRECISION), b_M, PRECISION)
    tl.store(p_M + o_32, b_M.to(p_M.dtype.element_ty))
    if C == 64:
        o_half = o_t[:, None] * C + o_t[None, :]
        left = tl.sum(tl.where((o_n == 0)[:, None, None], b_M, 0.0), axis=0)
        right = tl.sum(tl.where((o_n == 1)[:, None, None], b_M, 0.0), axis=0)
        b_X = dot(dot(right, tl.load(p_L + 32 * C + o_half), PRECISION), left, PRECISION)
        tl.store(p_M + 32 * C + o_half, (-b_X).to(p_M.dtype.element_ty))
        tl.store(p_M + 32 + o_half, tl.zeros([32, 32], dtype=p_M.dtype.element_ty))


@triton.jit
def inverse(b_L, C: tl.constexpr, PRECISION: tl.constexpr):
    """M = (I + L)^-1 for L [C, C] in registers, C of 32 or 64, in the steps of `inverse_in_memory`."""
    A: tl.constexpr = C // 16
    N: tl.constexpr = C // 32
    o_a, o_s, o_2, o_t = tl.arange(0, A), tl.arange(0, 16), tl.arange(0, 2), tl.arange(0, 32)
    m_own = (o_a[:, None] == o_a[None, :])[:, None, :, None]
    b_D = tl.sum(tl.where(m_own, tl.reshape(b_L, [A, 16, A, 16]), 0.0), axis=2)
    b_M = tl.where((o_s[:, None] == o_s[None, :])[None, :, :], 1.0, 0.0) - tl.where(
        joined(o_s, 1)[None, :, :], b_D, 0.0
    )
    for level in tl.static_range(1, 4):
        b_X = tl.where(joined(o_s, 1 << level)[None, :, :], b_D, 0.0)
        b_M -= dot(dot(b_M, b_X, PRECISION), b_M, PRECISION)
    m_own = (o_2[:, None] == o_2[None, :])[None, :, None, :, None]
    b_M = tl.reshape(tl.where(m_own, tl.reshape(b_M, [N, 2, 16, 1, 16]), 0.0), [N, 32, 32])
    if C == 64:
        b_halves = tl.reshape(b_L, [2, 32, 2, 32])
        m_own = (o_2[:, None] == o_2[None, :])[:, None, :, None]
        b_D = tl.sum(tl.where(m_own, b_halves, 0.0), axis=2)
    else:
        b_D = tl.reshape(b_L, [N, 32, 32])
    b_X = tl.where(joined(o_t, 16)[None, :, :], b_D, 0.0)
    b_M -= dot(dot(b_M, b_X, PRECISION), b_M, PRECISION)
    if C == 32:
        return tl.reshape(b_M, [C, C])
    else:  # noqa: RET505 (a compile-time condition)
        b_M = tl.reshape(tl.where(m_own, tl.reshape(b_M, [2, 32, 1, 32]), 0.0), [C, C])
        o_c = tl.arange(0, C)
        b_X = tl.where(joined(o_c, 32), b_L, 0.0)
        return b_M - dot(dot(b_M, b_X, PRECISION), b_M, PRECISION)
