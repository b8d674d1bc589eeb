"""RMSNorm with the sum before it or the gate after it, and SwiGLU's product: one pass each for three to eight.

Letters: N rows, D channels of a row, DP the same padded to a power of two, BN rows of a program.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gdn2.ops.triton.launch import launchable, launcher_of, on_device_of

TILE = 2048  # numbers of a program, unless one row has more
ELEMENTS = 1024  # of a program of SwiGLU


def rms_norm(
    x: Tensor, weight: Tensor, eps: float, groups: int = 1, gate: Tensor | None = None, activation: str = "none",
    *, dtype: torch.dtype | None = None,
) -> Tensor:  # fmt: skip
    """The product x / rms(x) * weight * activation(gate), computed in float32, without gradients.

    Args:
        x: [..., groups * D], each group of D channels normalised by itself.
        weight: [groups * D].
        eps: is added to the mean square.
        groups: the number of groups.
        gate: as many numbers as x has, in the same order; None: no gate.
        activation: of the gate, "sigmoid" or "silu".
        dtype: of the result; that of x by default.

    Returns:
        The shape of x.
    """
    D = x.shape[-1] // groups
    y = torch.empty_like(x, memory_format=torch.contiguous_format, dtype=dtype or x.dtype)
    if x.numel():
        gate = None if gate is None else launchable(gate)
        constants = {"D": D, "GROUPS": groups, "ADDS": False, "HAS_GATE": gate is not None,
                     "SILU": activation == "silu"}  # fmt: skip
        _launch_norm(constants, (launchable(x), launchable(weight), gate, None, None, y), eps)
    return y


def add_rms_norm(
    x: Tensor, added: Tensor, weight: Tensor, eps: float, *, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """The sum x + added as PyTorch rounds it, and that sum / rms(sum) * weight, without gradients.

    Args:
        x: [..., D].
        added: the shape of x.
        weight: [D].
        eps: is added to the mean square.
        dtype: of the normalised sum; that of the sum by default.

    Returns:
        The sum, in the dtype that PyTorch gives it, and the normalised sum.
    """
    total = torch.empty(x.shape, dtype=torch.promote_types(x.dtype, added.dtype), device=x.device)
    y = torch.empty_like(total, dtype=dtype or total.dtype)
    if x.numel():
        constants = {"D": x.shape[-1], "GROUPS": 1, "ADDS": True, "HAS_GATE": False, "SILU": False}
        _launch_norm(constants, (launchable(x), launchable(weight), None, launchable(added), total, y), eps)
    return total, y


def _launch_norm(constants: dict[str, int], arguments: tuple[Tensor | None, ...], eps: float) -> None:
    """Run the kernel on its tensors, of which the last is the result."""
    y, D = arguments[-1], constants["D"]
    assert y is not None
    DP, N = triton.next_power_of_2(D), y.numel() // D
    BN = max(1, TILE // DP)
    values = (*constants.items(), ("DP", DP), ("BN", BN), ("num_warps", 8 if DP > TILE else 4))
    dtypes = tuple(None if part is None else part.dtype for part in arguments)
    launch = launcher_of(rms_norm_kernel, values, dtypes, y.device)
    with on_device_of(y):
        launch((triton.cdiv(N, BN), 1, 1), *arguments, N, eps)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """The product silu(gate) * up, computed in float32, without gradients; both have one shape."""
    gate, up = launchable(gate), launchable(up)
    y, N = torch.empty_like(gate), gate.numel()
    if N:
        constants = {"SIZE": ELEMENTS, "EVEN": N % ELEMENTS == 0, "num_warps": 4}
        launch = launcher_of(swiglu_kernel, tuple(constants.items()), (gate.dtype, up.dtype), gate.device)
        with on_device_of(gate):
            launch((triton.cdiv(N, ELEMENTS), 1, 1), gate, up, y, N)
    return y


@triton.jit(do_not_specialize=["N", "eps"])
def rms_norm_kernel(
    p_x, p_weight, p_gate, p_added, p_total, p_y, N: tl.int64, eps,
    D: tl.constexpr, DP: tl.constexpr, BN: tl.constexpr, GROUPS: tl.constexpr, ADDS: tl.constexpr,
    HAS_GATE: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """One program for each BN rows."""
    rows, o_d = tl.program_id(0).to(tl.int64) * BN + tl.arange(0, BN), tl.arange(0, DP)
    mask = (rows < N)[:, None] & (o_d < D)[None, :]
    at = rows[:, None] * D + o_d[None, :]
    b_x = tl.load(p_x + at, mask=mask, other=0.0).to(tl.float32)
    if ADDS:
        b_total = (b_x + tl.load(p_added + at, mask=mask, other=0.0).to(tl.float32)).to(p_total.dtype.element_ty)
        tl.store(p_total + at, b_total, mask=mask)
        b_x = b_total.to(tl.float32)  # what is normalised is the sum as it is kept
    b_weight = tl.load(p_weight + (rows % GROUPS)[:, None] * D + o_d[None, :], mask=mask, other=0.0).to(tl.float32)
    b_y = b_x * tl.rsqrt(tl.sum(b_x * b_x, axis=1) / D + eps)[:, None] * b_weight
    if HAS_GATE:
        b_gate = tl.load(p_gate + at, mask=mask, other=0.0).to(tl.float32)
        b_y *= b_gate * tl.sigmoid(b_gate) if SILU else tl.sigmoid(b_gate)
    tl.store(p_y + at, b_y.to(p_y.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["N"])
def swiglu_kernel(p_gate, p_up, p_y, N: tl.int64, SIZE: tl.constexpr, EVEN: tl.constexpr):
    """One program for each SIZE numbers; EVEN: N is a multiple of SIZE."""
    first, o = tl.program_id(0).to(tl.int64) * SIZE, tl.arange(0, SIZE)
    # A mask of an N that Triton knows nothing about would make it load number by number.
    mask = None if EVEN else first + o < N
    b_gate = tl.load(p_gate + first + o, mask=mask).to(tl.float32)
    b_up = tl.load(p_up + first + o, mask=mask).to(tl.float32)
    tl.store(p_y + first + o, (b_gate * tl.sigmoid(b_gate) * b_up).to(p_y.dtype.element_ty), mask=mask)
