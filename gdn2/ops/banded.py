"""Softmax attention of a run of tokens by kernels (gdn2/ops/triton/banded.py), with gradients where they are asked for.

What it computes is what PyTorch's `scaled_dot_product_attention` gives with a mask, which is the specification and what
runs elsewhere (gdn2/mixers/runs.py).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gdn2.ops.fused import fuses
from gdn2.ops.learning import learns
from gdn2.ops.orders import once
from gdn2.padding import Positions

MAX_HEAD = 256  # channels


def attends(q: Tensor, k: Tensor, v: Tensor, *before: Tensor) -> bool:
    """Whether there are kernels for a run of queries: also for what lies before it, if there is anything.

    Gradients are those of the run's own keys and values: where any is asked for, nothing may lie before it.
    """
    if q.shape[-1] > MAX_HEAD or not q.numel():
        return False
    return fuses(q, k, v, *before) or (not before and learns(q, k, v))


def attend(
    q: Tensor, k: Tensor, v: Tensor, positions: Positions, window: int | None, scale: float | None,
    *, ring: tuple[Tensor, Tensor] | None = None, cached: bool = False,
) -> Tensor:  # fmt: skip
    """Attend with a run of queries to its own keys and those before; `attends` must have said yes.

    Args:
        q: [B, T, H, d].
        k: [B, T, G, d]; or [B, S, G, d], the slots of all of a row's tokens (`cached`).
        v: as k.
        positions: where the run's tokens are.
        window: the tokens that a query sees, its own included; None: all before it.
        scale: of the products of queries and keys; 1 / sqrt(d) by default.
        ring: keys and values [B, W, G, d] of the tokens before the run, the token at position p in slot p modulo W.
        cached: whether a key lies in the slot of its position, and not in the column of its query.

    Returns:
        [B, T, H, d], 0 at padding; under autocast in its dtype.
    """
    kind = q.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else q.dtype
    q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    if torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
        o: Tensor = _Attention.apply(q, k, v, positions, window, scale)  # type: ignore[no-untyped-call]
        return o
    from gdn2.ops.triton.banded import band_forward

    return band_forward(q, k, v, window, scale, positions=positions, ring=ring, cached=cached)[0]


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, positions: Positions, window: int | None, scale: float
    ) -> Tensor:
        from gdn2.ops.triton.banded import band_forward

        o, lse = band_forward(q, k, v, window, scale, positions=positions, with_lse=True)
        ctx.save_for_backward(q, k, v, o, lse)
        ctx.positions, ctx.window, ctx.scale = positions, window, scale
        return o

    @staticmethod
    @once
    def backward(ctx: Any, do: Tensor) -> tuple[Tensor | None, ...]:
        from gdn2.ops.triton.banded_backward import band_gradients

        positions, window, scale = ctx.positions, ctx.window, ctx.scale
        dq, dk, dv = band_gradients(do, *ctx.saved_tensors, window=window, scale=scale, positions=positions)
        return dq, dk, dv, None, None, None
