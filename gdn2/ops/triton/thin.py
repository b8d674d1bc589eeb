"""Products of a few rows with weights, y = x W^T, as fast as the weights can be read: those of a decoding step.

One launch takes all matrices that multiply the same x, or SwiGLU's two with the product behind them. Programs are small
and many, so that the whole GPU reads from the first moment on. A program has all columns of its weights, there are no
atomics, and the order of a row's sums is that of the tile's BK and SPLIT, whatever number of rows there is: a row gives
the same bits alone and among others.

Tensor cores take 8, 16 or 32 rows at a time. Weights come through shared memory, several blocks ahead, and each of
SPLIT groups of warps sums columns of its own.

Letters: R rows, K columns of x and of the weights, N rows of a matrix, BN of a program, BK columns of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gdn2.ops.triton.launch import ALIGNMENT, is_aligned, launchable, launcher_of, on_device_of

MOST_ROWS = 32
MOST_COLUMNS = 16384
MOST_MATRICES = 8
APART = 16  # results begin at multiples of so many numbers
Tile = dict[str, int]  # BN, BK, SPLIT, num_warps, num_stages


def are_thin(rows: int, weights: Sequence[Tensor]) -> bool:
    """Whether there is a kernel for so many rows and these matrices [N, K]."""
    return 0 < rows <= MOST_ROWS and len(weights) <= MOST_MATRICES and 0 < weights[0].shape[-1] <= MOST_COLUMNS


def thin_tile(size: int, *, paired: bool = False) -> Tile:
    """The tile for numbers of so many bytes, and for SwiGLU's pairs of matrices or not."""
    return {"BN": 32 if paired and size == 2 else 16, "BK": 512 // size, "SPLIT": 4, "num_warps": 4, "num_stages": 4}


def products(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor] | None = None,
    *, sigmoids: Sequence[bool] | None = None, tile: Tile | None = None,
) -> list[Tensor]:  # fmt: skip
    """The products x W^T (+ bias) of one x with several matrices, without gradients, summed in float32.

    Args:
        x: [..., K], at most `MOST_ROWS` rows of bfloat16, float16 or float32.
        weights: [N, K] each, contiguous, in the dtype of x.
        biases: [N] each, one for every matrix; None: no bias.
        sigmoids: for every matrix whether the sigmoid of the rounded product is asked for; None: nowhere.
        tile: another one than that of `thin_tile`.

    Returns:
        [..., N] each, contiguous, in the dtype of x.
    """
    sizes = tuple(len(weight) for weight in weights)
    opens = tuple(map(int, sigmoids or [False] * len(sizes)))
    return _launch(x, tuple(weights), None if biases is None else tuple(biases), sizes, opens, tile)


def swiglu_product(x: Tensor, gate: Tensor, up: Tensor, *, tile: Tile | None = None) -> Tensor:
    """SwiGLU's silu(x gate^T) * (x up^T) of the rounded products, without gradients.

    Args:
        x: [..., K], at most `MOST_ROWS` rows of bfloat16, float16 or float32.
        gate: [N, K], contiguous, in the dtype of x.
        up: the same.
        tile: another one than that of `thin_tile`; its BN counts rows of both.

    Returns:
        [..., N] in the dtype of x.
    """
    return _launch(x, (gate, up), None, (len(gate),), (0,), tile)[0]


def _launch(
    x: Tensor, weights: tuple[Tensor, ...], biases: tuple[Tensor, ...] | None, sizes: tuple[int, ...],
    opens: tuple[int, ...], tile: Tile | None,
) -> list[Tensor]:  # fmt: skip
    K, x = x.shape[-1], launchable(x)
    R, paired = x.numel() // K, len(weights) > len(sizes)
    tile = tile or thin_tile(x.element_size(), paired=paired)
    constants, programs = thin_constants(K, R, sizes, opens, tile, paired=paired)
    aligned = tuple(is_aligned(part) for part in (*weights, *(biases or ())))
    constants |= {"HAS_BIAS": biases is not None, "ALIGNED": all(aligned) and K * x.element_size() % ALIGNMENT == 0}
    starts: tuple[int, ...] = constants["STARTS"]
    y = torch.empty(R * (starts[-1] + sizes[-1]), dtype=x.dtype, device=x.device)
    kind = (x.dtype, len(weights), None if biases is None else biases[0].dtype, aligned)
    launch = launcher_of(thin_kernel, tuple(constants.items()), kind, x.device)
    with on_device_of(x):
        launch((programs, 1, 1), x, weights, biases, y, R)
    parts = zip(starts, sizes, strict=True)
    return [y[R * start : R * (start + size)].view(*x.shape[:-1], size) for start, size in parts]


def thin_constants(
    K: int, rows: int, sizes: tuple[int, ...], opens: tuple[int, ...], tile: Tile, *, paired: bool
) -> tuple[dict[str, Any], int]:
    """The compile-time arguments and compiler options that sizes give, and the number of programs.

    Args:
        K: columns.
        rows: of x.
        sizes: rows of each matrix; of SwiGLU's pair once.
        opens: for each whether the sigmoid follows, 1 or 0.
        tile: as `thin_tile` gives it.
        paired: whether it is SwiGLU's pair.
    """
    firsts, starts, programs, start = [], [], 0, 0
    for size in sizes:
        firsts.append(programs)
        starts.append(start)
        programs += triton.cdiv(size, tile["BN"] // 2 if paired else tile["BN"])
        start += triton.cdiv(size, APART) * APART
    of_sizes = {
        "K": K, "SIZES": sizes, "FIRSTS": tuple(firsts), "STARTS": tuple(starts), "OPENS": opens,
        "ANY_OPENS": any(opens), "PAIRED": paired, "ROWS": max(8, triton.next_power_of_2(rows)),
    }  # fmt: skip
    return of_sizes | tile, programs


@triton.jit(do_not_specialize=["R"])
def thin_kernel(
    p_x, p_ws, p_biases, p_y, R,
    K: tl.constexpr, SIZES: tl.constexpr, FIRSTS: tl.constexpr, STARTS: tl.constexpr, OPENS: tl.constexpr,
    ANY_OPENS: tl.constexpr, PAIRED: tl.constexpr, HAS_BIAS: tl.constexpr, ALIGNED: tl.constexpr,
    ROWS: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """One program for BN rows of one matrix, or for half as many of both of a pair."""
    i, o_n = tl.program_id(0), tl.arange(0, BN)
    p_w, p_bias, N, first, start, opens = p_ws[0], p_biases[0] if HAS_BIAS else None, SIZES[0], 0, 0, OPENS[0]
    for m in tl.static_range(1, len(SIZES)):
        here = i >= FIRSTS[m]
        p_w, N = tl.where(here, p_ws[m], p_w), tl.where(here, SIZES[m], N)
        first, start = tl.where(here, FIRSTS[m], first), tl.where(here, STARTS[m], start)
        if HAS_BIAS:
            p_bias = tl.where(here, p_biases[m], p_bias)
        if ANY_OPENS:
            opens = tl.where(here, OPENS[m], opens)
    p_y += start * R
    if PAIRED:
        o_n = i * (BN // 2) + o_n % (BN // 2)
        p_rows = tl.where(tl.arange(0, BN) < BN // 2, p_w, p_ws[1])
    else:
        o_n = (i - first) * BN + o_n
        p_rows = p_w
    p_rows += o_n.to(tl.int64) * K
    if ALIGNED:
        p_rows = tl.multiple_of(p_rows, 16)
    m_n = o_n < N
    b_y = rows_product(p_x, p_rows, m_n, R, K, ROWS, BN, BK, SPLIT)
    if HAS_BIAS:
        b_y += tl.load(p_bias + o_n, mask=m_n, other=0.0).to(tl.float32)[None, :]
    finish(b_y.to(p_y.dtype.element_ty), p_y, tl.arange(0, ROWS), R, i - first, N, opens, PAIRED, ANY_OPENS)


@triton.jit
def finish(b_y, p_y, o_r, R, block, N, opens, PAIRED: tl.constexpr, ANY_OPENS: tl.constexpr):
    """Store rounded results [rows, BN] with what follows them: the sigmoid, or SwiGLU's product of the pair."""
    if PAIRED:
        ROWS: tl.constexpr = b_y.shape[0]
        b_gate, b_up = tl.split(tl.permute(tl.reshape(b_y, [ROWS, 2, b_y.shape[1] // 2]), (0, 2, 1)))
        b_gate = b_gate.to(tl.float32)
        b_y = (b_gate * tl.sigmoid(b_gate) * b_up.to(tl.float32)).to(b_y.dtype)
    if ANY_OPENS:
        b_y = tl.where(opens > 0, tl.sigmoid(b_y.to(tl.float32)).to(b_y.dtype), b_y)
    o_n = block * b_y.shape[1] + tl.arange(0, b_y.shape[1])
    tl.store(p_y + o_r[:, None] * N + o_n[None, :], b_y, mask=(o_r < R)[:, None] & (o_n < N)[None, :])


@triton.jit
def rows_product(
    p_x, p_rows, m_n, R, K: tl.constexpr, ROWS: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SPLIT: tl.constexpr
):  # fmt: skip
    """The products [ROWS, BN] of up to ROWS rows; group s of the warps sums the s-th part of each block's columns."""
    PART: tl.constexpr = BK // SPLIT
    o_k = tl.arange(0, SPLIT)[:, None, None] * PART + tl.arange(0, PART)[None, None, :]
    o_r = tl.arange(0, ROWS)[None, :, None]
    p_w, p_x = p_rows[None, :, None] + o_k, p_x + o_r * K + o_k
    b_y = tl.zeros([SPLIT, BN, ROWS], dtype=tl.float32)
    for k in range(0, K, BK):
        left = o_k < K - k
        b_w = tl.load(p_w + k, mask=m_n[None, :, None] & left, other=0.0, eviction_policy="evict_first")
        b_x = tl.load(p_x + k, mask=(o_r < R) & left, other=0.0)
        b_y = tl.dot(b_w, tl.permute(b_x, (0, 2, 1)), b_y, input_precision="ieee")
    # The sum of the parts, in an order that Triton does not choose by the number of rows.
    for level in tl.static_range(1, 4):
        if SPLIT >> level > 0:
            b_halves = tl.reshape(b_y, [2, SPLIT >> level, BN, ROWS])
            b_first, b_second = tl.split(tl.permute(b_halves, (1, 2, 3, 0)))
            b_y = b_first + b_second
    return tl.trans(tl.reshape(b_y, [BN, ROWS]))
