"""Rotary embedding by a kernel, with gradients where they are asked for; `gdn2.modules.turn_halves` specifies it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gdn2.ops.fused import fuses
from gdn2.ops.learning import learns
from gdn2.ops.orders import once


def turns(x: Tensor) -> bool:
    """Whether there is a kernel for heads like these."""
    return x.numel() > 0 and (fuses(x) or learns(x))


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn channels i and i + n / 2 of each head by the i-th angle, for i below n / 2; the others stay.

    Args:
        x: [B, T, H, d], n at most d.
        cos: of the angles, float32 [B, T, 1, n / 2]; without gradients.
        sin: as cos.

    Returns:
        [B, T, H, d] in the dtype of x, contiguous.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        y: Tensor = _Turn.apply(x, cos, sin)  # type: ignore[no-untyped-call]
        return y
    return _turned(x, cos, sin, back=False)


def _turned(x: Tensor, cos: Tensor, sin: Tensor, *, back: bool) -> Tensor:
    from gdn2.ops.triton.rotation import turn

    return turn(x, cos, sin, back=back)


class _Turn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, back=False)

    @staticmethod
    @once
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        return _turned(dy, *ctx.saved_tensors, back=True), None, None
