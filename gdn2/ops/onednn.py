"""Products with weights on a CPU, by oneDNN where that is faster.

MKL, which multiplies float32 in PyTorch, takes half the width of an AVX-512 CPU's registers where that CPU is not
Intel's; oneDNN, which PyTorch has as well, takes all of it. Products of few numbers are left to MKL, whose calls begin
sooner.

Letters: N rows, D inputs, C outputs.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from gdn2.ops.orders import PLAIN, writes_gradients

NARROW = 32  # inputs or outputs
LEAST = 1 << 21
"""Multiplications from which oneDNN is faster: so were 4 rows of 576 by 1536, and 256 rows of 128 by 128."""
LARGE = 1 << 19
"""Numbers of a weight from which it is for any number of rows, as such weights come from memory each time."""


def wide_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer as PyTorch has it, by oneDNN where that is faster; gradients of gradients are PyTorch's.

    So is all in forward mode and `torch.func`'s transforms: oneDNN's product has no derivatives, and does not say so.

    Args:
        x: [..., D].
        weight: [C, D].
        bias: [C].
    """
    is_small = x.numel() * weight.shape[0] < LEAST and weight.numel() < LARGE
    if is_small or not widens(x, weight) or not writes_gradients():
        return linear(x, weight, bias)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        y: Tensor = _Linear.apply(x, weight)  # type: ignore[no-untyped-call]
        return y if bias is None else y + bias
    y = wide_product(x.flatten(0, -2), weight, bias)
    return y.view(*x.shape[:-1], weight.shape[0])


def widens(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN multiplies these faster if they are large enough: float32 on such a CPU, without autocast."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or weight.dtype != torch.float32 or x.ndim < 2:
        return False
    plain = type(x) in PLAIN and type(weight) in PLAIN
    whole = torch.get_float32_matmul_precision() == "highest"  # else oneDNN may round to bfloat16
    return plain and whole and mkl_is_narrow() and not torch.is_autocast_enabled("cpu")


def wide_product(x: Tensor, y: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product x y^T of matrices [N, D] and [C, D], with a bias [C] added, by oneDNN, without gradients."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, y, bias, "none", [], "")
    return found


@lru_cache(maxsize=1)
def mkl_is_narrow() -> bool:
    """Whether PyTorch multiplies by MKL on an AVX-512 CPU that is not Intel's, and has oneDNN beside it."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkl.is_available():
        return False
    try:
        known = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return "GenuineIntel" not in known and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        y: Tensor = wide_product(x.flatten(0, -2), weight).unflatten(0, x.shape[:-1])
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        dx: Tensor | None = None
        dweight: Tensor | None = None
        rows, inputs = dy.flatten(0, -2), x.flatten(0, -2)
        again = torch.is_grad_enabled()  # gradients of gradients are asked for
        if ctx.needs_input_grad[0]:
            dx = (rows @ weight if again else wide_product(rows, weight.t())).view(x.shape)
        if ctx.needs_input_grad[1]:
            dweight = rows.t() @ inputs if again else _weight_gradient(rows, inputs)
        return dx, dweight


def _weight_gradient(dy: Tensor, x: Tensor) -> Tensor:
    """The gradient dy^T x [C, D] of a weight, for dy [N, C] and x [N, D]; may be transposed in memory."""
    if min(dy.shape[1], x.shape[1]) < NARROW:  # oneDNN turns its inputs first, which takes longer than the product
        return dy.t() @ x
    if dy.shape[1] > x.shape[1]:  # oneDNN is faster with few rows
        return wide_product(x.t(), dy.t()).t()
    return wide_product(dy.t(), x.t())
