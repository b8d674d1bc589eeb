"""Products of one input with several weights under autocast, with gradients; see `gdn2.products` for when they run.

Letters: N tokens, D width, C outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from gdn2.ops.orders import once

FLOAT32_RESULTS = "dtype" in torch.ops.aten.mm.overloads()  # of products in half precision, from PyTorch 2.8 on
SMALL = 256  # outputs: weights of no more are one product together, since each would read all of the input for little


def products(x: Tensor, weights: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The products linear(x, weight) in autocast's dtype.

    The gradient of x is summed up by the products themselves, in the float32 of their sums, rounded once for each of
    them; PyTorch would round each product and each sum, and read and write all of them again. Kept are x in that dtype,
    once, and the weights themselves.

    Args:
        x: [..., D].
        weights: [C, D] each, in float32.
        dtype: of the products.
    """
    found: tuple[Tensor, ...] = _Products.apply(x, dtype, *weights)  # type: ignore[no-untyped-call]
    return found


def weight_gradient(dy: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    """The gradient dy^T x of a weight in the weight's dtype, for dy [N, C] and x [N, D] of one dtype.

    On a GPU a float32 one is not rounded to half precision on the way, and not written and read once more.
    """
    if FLOAT32_RESULTS and x.is_cuda and dtype == torch.float32 and x.dtype in (torch.bfloat16, torch.float16):
        return torch.mm(dy.t(), x, out_dtype=dtype)
    return (dy.t() @ x).to(dtype)


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.dtype = x.dtype
        x = x.to(dtype)
        ctx.save_for_backward(x, *weights)
        ctx.set_materialize_grads(False)
        made: dict[int, Tensor] = {}
        for group in _groups(weights):
            sizes = [len(weights[i]) for i in group]
            made |= zip(group, linear(x, _joint(weights, group, dtype)).split(sizes, dim=-1), strict=True)
        return tuple(made[i] for i in range(len(weights)))

    @staticmethod
    @once
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        flat, dx = x.flatten(0, -2), None
        found: dict[int, Tensor] = {}
        for group in _groups(weights):
            if all(gradients[i] is None for i in group):
                continue
            parts = [_rows(gradients[i], flat, weights[i]) for i in group]
            dy = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
            weight = _joint(weights, group, x.dtype)
            dx = dy @ weight if dx is None else dx.addmm_(dy, weight)
            sizes = [len(weights[i]) for i in group]
            found |= zip(group, weight_gradient(dy, flat, weights[group[0]].dtype).split(sizes), strict=True)
        of_x = None if dx is None else dx.view(x.shape).to(ctx.dtype)
        return of_x, None, *(found.get(i) for i in range(len(weights)))


def _groups(weights: Sequence[Tensor]) -> list[list[int]]:
    """The weights that are one product each: every large one, and all small ones together."""
    small = [i for i, weight in enumerate(weights) if len(weight) <= SMALL]
    return [[i] for i in range(len(weights)) if i not in small] + ([small] if small else [])


def _joint(weights: Sequence[Tensor], group: Sequence[int], dtype: torch.dtype) -> Tensor:
    parts = [weights[i].to(dtype) for i in group]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _rows(gradient: Tensor | None, x: Tensor, weight: Tensor) -> Tensor:
    """A gradient as [N, C] in the dtype of x; zeros where there is none."""
    if gradient is None:
        return x.new_zeros(len(x), len(weight))
    return gradient.flatten(0, -2).to(x.dtype)
