"""Gradients of RMSNorm's kernels: with the gate after it, or the sum before it.

Sums over rows are one row of partial sums a program, which PyTorch adds: no atomics, the same bits in every run.

Letters: N rows, D channels of a row, DP the same padded to a power of two, BN rows of a tile.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gdn2.ops.triton.launch import launchable, launcher_of, on_device_of

TILE = 2048  # numbers of a tile
TILES = 8  # of a program


def rms_norm_gradients(
    dy: Tensor, x: Tensor, weight: Tensor, eps: float, gate: Tensor | None, activation: str
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of `rms_norm` with one group.

    Args:
        dy: of the result, the shape of x.
        x: [..., D].
        weight: [D].
        eps: as in the forward.
        gate: as many numbers as x has; None: no gate.
        activation: of the gate.

    Returns:
        Those of x and of the gate in their dtypes, and that of the weight in float32, as (x, weight, gate).
    """
    dx, dgate = torch.empty_like(x), None if gate is None else torch.empty_like(gate)
    gates = {"HAS_GATE": gate is not None, "SILU": activation == "silu", "JOINS": False, "HALVES": False}
    dweight = _norm_gradients(gates, (dy, x, weight, gate, None), (dx, dgate, None), eps)
    return dx, dweight, dgate


def add_rms_norm_gradients(
    d_total: Tensor | None, dy: Tensor, total: Tensor, weight: Tensor, eps: float, added_dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `add_rms_norm`.

    Args:
        d_total: of the sum, the shape and dtype of the sum; None: nothing but the norm takes it.
        dy: of the normalised sum.
        total: the sum [..., D].
        weight: [D].
        eps: as in the forward.
        added_dtype: the dtype of what was added.

    Returns:
        That of both addends in the dtype of the sum, the same in `added_dtype`, and that of the weight in float32.
    """
    dx = torch.empty_like(total)
    halved = None if added_dtype == total.dtype else torch.empty_like(total, dtype=added_dtype)
    sums = {"HAS_GATE": False, "SILU": False, "JOINS": d_total is not None, "HALVES": halved is not None}
    dweight = _norm_gradients(sums, (dy, total, weight, None, d_total), (dx, None, halved), eps)
    return dx, dx if halved is None else halved, dweight


def _norm_gradients(
    flags: dict[str, bool],
    inputs: tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None],
    outputs: tuple[Tensor, Tensor | None, Tensor | None],
    eps: float,
) -> Tensor:
    """Run the kernel of a norm's gradients with these arguments, and give the weight's gradient."""
    dy, x, weight, gate, d_total = inputs
    D = x.shape[-1]
    DP, N = triton.next_power_of_2(D), x.numel() // D
    if not N:
        return torch.zeros(D, device=x.device)
    programs = triton.cdiv(N, (BN := 2 if DP > TILE else max(1, TILE // DP)) * TILES)
    sums = torch.empty(programs, D, dtype=torch.float32, device=x.device)
    constants = {"D": D, "DP": DP, "BN": BN, "TILES": TILES, **flags, "num_warps": 4 if DP > TILE // 2 else 2}
    kind = tuple(None if part is None else part.dtype for part in (*inputs, *outputs))
    launch = launcher_of(rms_norm_gradients_kernel, tuple(constants.items()), kind, x.device)
    d_total = None if d_total is None else launchable(d_total)
    with on_device_of(x):
        launch((programs, 1, 1), launchable(dy), x, weight, gate, d_total, *outputs, sums, N, eps)
    return sums.sum(0)


@triton.jit(do_not_specialize=["N", "eps"])
def rms_norm_gradients_kernel(
    p_dy, p_x, p_weight, p_gate, p_d_total, p_dx, p_dgate, p_halved, p_sums, N: tl.int64, eps,
    D: tl.constexpr, DP: tl.constexpr, BN: tl.constexpr, TILES: tl.constexpr, HAS_GATE: tl.constexpr,
    SILU: tl.constexpr, JOINS: tl.constexpr, HALVES: tl.constexpr,
):  # fmt: skip
    """One program for TILES tiles of BN rows, and one row of sums; JOINS: x has another gradient beside the norm's."""
    i, o_d = tl.program_id(0).to(tl.int64), tl.arange(0, DP)
    m_d = o_d < D
    b_weight = tl.load(p_weight + o_d, mask=m_d, other=0.0).to(tl.float32)
    b_sum = tl.zeros([DP], dtype=tl.float32)
    for tile in range(TILES):
        rows = (i * TILES + tile) * BN + tl.arange(0, BN)
        mask = (rows < N)[:, None] & m_d[None, :]
        at = rows[:, None] * D + o_d[None, :]
        b_x = tl.load(p_x + at, mask=mask, other=0.0).to(tl.float32)
        b_dy = tl.load(p_dy + at, mask=mask, other=0.0).to(tl.float32)
        b_scale = tl.rsqrt(tl.sum(b_x * b_x, axis=1) / D + eps)[:, None]
        b_unit = b_x * b_scale
        if HAS_GATE:
            b_gate = tl.load(p_gate + at, mask=mask, other=0.0).to(tl.float32)
            b_open = tl.sigmoid(b_gate)
            b_slope = b_open * (1 - b_open)
            if SILU:
                b_slope = b_open + b_gate * b_slope
                b_open = b_gate * b_open
            b_dgate = b_dy * b_unit * b_weight[None, :] * b_slope
            tl.store(p_dgate + at, b_dgate.to(p_dgate.dtype.element_ty), mask=mask)
            b_dy *= b_open
        b_sum += tl.sum(b_dy * b_unit, axis=0)
        b_dunit = b_dy * b_weight[None, :]
        b_dx = b_scale * (b_dunit - b_unit * (tl.sum(b_dunit * b_unit, axis=1) / D)[:, None])
        if JOINS:
            b_dx += tl.load(p_d_total + at, mask=mask, other=0.0).to(tl.float32)
        tl.store(p_dx + at, b_dx.to(p_dx.dtype.element_ty), mask=mask)
        if HALVES:
            tl.store(p_halved + at, b_dx.to(p_halved.dtype.element_ty), mask=mask)
    tl.store(p_sums + i * D + o_d, b_sum, mask=m_d)
