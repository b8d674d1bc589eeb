"""Pieces that the chunk kernels share: products at a stated precision, and decay between tokens that never overflows.

A pair of tokens j <= i of a chunk meets with the factor exp(G_i - G_j) <= 1 on each key channel, G the cumulative
log-decay. A matrix product needs it split in a factor of the row and one of the column:

* one reference for the chunk, the middle of its range: exp(G_i - m) and exp(m - G_j). Where the chunk loses less than
  a bound, both stay finite. This is the usual case and costs one product.
* else by levels: blocks of 8, 16, ... tokens are joined in pairs with the end of the left block as the reference, so
  that no exponent is positive, and pairs inside a block of 8 meet with the end of its fourth row as the reference;
  a step's decay is cut at exp(-20) = 2e-9, below float32's resolution, hence those exponents stay within +-80.

Exponents are base 2 inside the kernels. Sums run over the tokens between reference and row only, which keeps small
differences exact behind a strong decay.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
STRONGEST_STEP = tl.constexpr(-20.0)  # nats a token


@triton.jit
def dot(a, b, PRECISION: tl.constexpr):
    """a @ b with float32 accumulation: operands in bfloat16, tf32, or float32 as three tf32 products."""
    if PRECISION == "bf16":
        return tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16))
    else:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision=PRECISION)


@triton.jit
def dot_add(a, b, acc, PRECISION: tl.constexpr):
    """acc + a @ b, as `dot`."""
    if PRECISION == "bf16":
        return tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16), acc)
    else:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision=PRECISION)


@triton.jit
def log2_decay(b_g):
    """Base-2 log-decay of a tile of natural log-decay: cut at the strongest step, NaN where g > 0."""
    b_g = tl.where(b_g < STRONGEST_STEP, STRONGEST_STEP, b_g.to(tl.float32))
    return tl.where(b_g > 0, float("nan"), b_g) * LOG2_E


@triton.jit
def sums_before(b_g, o_c, SIZE):
    """For each row of [C, BK] the sum from the start of its block of SIZE rows, itself included."""
    o_i, o_j = o_c[:, None], o_c[None, :]
    return _sums(b_g, (o_i // SIZE == o_j // SIZE) & (o_j <= o_i))


@triton.jit
def sums_behind(b_g, o_c, SIZE):
    """For each row of [C, BK] the sum to the end of its block of SIZE rows, itself excluded."""
    o_i, o_j = o_c[:, None], o_c[None, :]
    return _sums(b_g, (o_i // SIZE == o_j // SIZE) & (o_j > o_i))


@triton.jit
def _sums(b_g, m_summed):
    return tl.dot(tl.where(m_summed, 1.0, 0.0), b_g, input_precision="tf32x3")


@triton.jit
def joined(o_c, SIZE):
    """[C, C]: rows of a right block with columns of the left block beside it."""
    o_i, o_j = o_c[:, None], o_c[None, :]
    return (o_i // (2 * SIZE) == o_j // (2 * SIZE)) & (o_i % (2 * SIZE) >= SIZE) & (o_j % (2 * SIZE) < SIZE)


@triton.jit
def inside_eight(o_c):
    """[C, C]: pairs of one block of 8 tokens."""
    return o_c[:, None] // 8 == o_c[None, :] // 8


@triton.jit
def exponent_inside_eight(b_g, o_c):
    """G_i minus G at the end of the fourth row of i's block of 8."""
    o_i, o_j = o_c[:, None], o_c[None, :]
    above = _sums(b_g, (o_i // 4 == o_j // 4) & (o_j <= o_i) & (o_i % 8 >= 4))
    return above - _sums(b_g, (o_i // 4 == o_j // 4) & (o_j > o_i) & (o_i % 8 < 4))
