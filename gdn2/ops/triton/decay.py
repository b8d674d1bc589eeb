"""What the kernels share: the place of a program, products at a given precision, and decay that never overflows.

Between two tokens j <= i of a chunk the decay is exp(G_i - G_j) <= 1 on each key channel, where G is the cumulative
log-decay. A matrix product needs it as a factor of the row times a factor of the column. There are two ways:

* One reference for the whole chunk, the middle m of its range: exp(G_i - m) and exp(m - G_j). Where the chunk decays
  less than a bound, both stay finite. This is the usual case and costs one product.
* By levels, for chunks that decay more. Blocks of 8, 16, ... tokens are joined in pairs, with the end of the left block
  as the reference, so that no exponent is positive. Pairs inside a block of 8 have the end of its fourth row as their
  reference; the decay of a step is cut at exp(-20) = 2e-9, below float32's resolution, so that their exponents stay
  within +-80.

Exponents are base 2 inside the kernels. Sums run only over the tokens between reference and row, which keeps small
differences exact after a strong decay.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
STRONGEST_STEP = tl.constexpr(-20.0)  # nats a token


@triton.jit
def place(H, BLOCKS: tl.constexpr):
    """Which tile a program works on: (slot, chunk or sequence, head, block); blocks vary fastest, then heads."""
    program = tl.program_id(0)
    slot = program // BLOCKS
    return slot.to(tl.int64), slot // H, slot % H, program % BLOCKS


@triton.jit
def dot(a, b, PRECISION: tl.constexpr):
    """The product a @ b, summed in float32; operands in bfloat16, in tf32, or in float32 as three tf32 products."""
    if PRECISION == "bf16":
        return tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16))
    else:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision=PRECISION)


@triton.jit
def dot_add(a, b, acc, PRECISION: tl.constexpr):
    """The sum acc + a @ b, at the precisions of `dot`."""
    if PRECISION == "bf16":
        return tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16), acc)
    else:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision=PRECISION)


@triton.jit
def log2_decay(b_g):
    """Base-2 log-decay from a tile of natural log-decay: cut at the strongest step, NaN where g > 0."""
    b_g = tl.where(b_g < STRONGEST_STEP, STRONGEST_STEP, b_g.to(tl.float32))
    return tl.where(b_g > 0, float("nan"), b_g) * LOG2_E


@triton.jit
def sums_before(b_g, SIZE: tl.constexpr):
    """For each row of [C, BK] the sum from the start of its block of SIZE rows up to the row itself, included."""
    C: tl.constexpr = b_g.shape[0]
    BK: tl.constexpr = b_g.shape[1]
    return tl.reshape(tl.cumsum(tl.reshape(b_g, [C // SIZE, SIZE, BK]), axis=1), [C, BK])


@triton.jit
def sums_after(b_next, o_c, SIZE: tl.constexpr):
    """For each row the sum from the next row to the end of its block of SIZE rows; b_next has the next row of each."""
    C: tl.constexpr = b_next.shape[0]
    BK: tl.constexpr = b_next.shape[1]
    b_next = tl.where((o_c % SIZE == SIZE - 1)[:, None], 0.0, b_next)
    return tl.reshape(tl.cumsum(tl.reshape(b_next, [C // SIZE, SIZE, BK]), axis=1, reverse=True), [C, BK])


@triton.jit
def joined(o_c, SIZE):
    """A mask [C, C] of the rows of each right block with the columns of the left block beside it."""
    o_i, o_j = o_c[:, None], o_c[None, :]
    return (o_i // (2 * SIZE) == o_j // (2 * SIZE)) & (o_i % (2 * SIZE) >= SIZE) & (o_j % (2 * SIZE) < SIZE)


@triton.jit
def level_mask(o_c, LEVEL: tl.constexpr):
    """A mask [C, C] of the pairs that meet at a level: one block of 8 tokens at level 2, joined blocks above it."""
    if LEVEL == 2:
        return o_c[:, None] // 8 == o_c[None, :] // 8
    else:
        return joined(o_c, 1 << LEVEL)


@triton.jit
def level_decay(b_g, b_next, o_c, LEVEL: tl.constexpr):
    """The factors (of rows, of columns) of a level, whose product is the decay between two tokens that meet there.

    At level 2 the reference is G at the end of the fourth row of a block of 8; above it, at the end of the left block.
    """
    if LEVEL == 2:
        below = (o_c % 8 >= 4)[:, None]
        x = tl.where(below, sums_before(b_g, 4), -sums_after(b_next, o_c, 4))
        return tl.exp2(x), tl.exp2(-x)
    else:
        SIZE: tl.constexpr = 1 << LEVEL
        return tl.exp2(sums_before(b_g, SIZE)), tl.exp2(sums_after(b_next, o_c, SIZE))
