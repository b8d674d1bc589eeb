"""A layer's small steps in training on a CPU, with gradients written out: fewer passes over memory than autograd takes.

Each is what PyTorch's operations in `gdn2.modules` say, to the rounding of sums, in float32 or float64.

Letters: B batch, T tokens, D channels, W taps, d channels of a head or of the width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gdn2.ops.orders import PLAIN, once, writes_gradients

CACHED = 1 << 17  # numbers of the rows of a convolution that run together, so that its tensors stay in the caches


def learns_on_cpu(x: Tensor, *others: Tensor | None) -> bool:
    """Whether a step on these tensors runs here: on a CPU, of one exact dtype, where gradients are asked for."""
    if not torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return False
    tensors = [x, *(other for other in others if other is not None)]
    if any(t.dtype != x.dtype or type(t) not in PLAIN for t in tensors) or torch.is_autocast_enabled("cpu"):
        return False
    return x.numel() > 0 and any(t.requires_grad for t in tensors) and writes_gradients()


def unit(x: Tensor, eps: float) -> Tensor:
    """The vectors x [..., d] / sqrt(|x|^2 + eps)."""
    y: Tensor = _Unit.apply(x, eps)  # type: ignore[no-untyped-call]
    return y


def normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm of x [..., d] with its weight [d]."""
    y: Tensor = _RMSNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return y


def convolved(x: Tensor, weight: Tensor, tail: Tensor, bias: Tensor | None, *, activate: bool) -> Tensor:
    """`gdn2.modules.short_convolution` of x [B, T, D] behind a tail [B, W - 1, D], by weight [D, 1, W]."""
    y: Tensor = _Convolution.apply(x, weight, tail, bias, activate)  # type: ignore[no-untyped-call]
    return y


def sum_of_taps(inputs: Tensor, taps: Tensor, bias: Tensor | None, out: Tensor | None = None) -> Tensor:
    """A causal convolution of each channel, [B, T, D]: a pass over the inputs for each tap, in the order of conv1d.

    Args:
        inputs: [B, W - 1 + T, D].
        taps: [W, D], the last one belongs to the current token.
        bias: [D].
        out: where the sums go.
    """
    first, *others = taps
    T = inputs.shape[1] - len(others)
    earliest = inputs[:, :T]
    y = torch.mul(earliest, first, out=out) if bias is None else torch.addcmul(bias, earliest, first, out=out)
    for start, tap in enumerate(others, start=1):
        y.addcmul_(inputs[:, start : start + T], tap)
    return y


class _Unit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        rate = torch.linalg.vecdot(x, x).add_(eps).rsqrt_().unsqueeze(-1)
        y: Tensor = x * rate
        ctx.save_for_backward(y, rate)
        return y

    @staticmethod
    @once
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        y, rate = ctx.saved_tensors
        along = torch.linalg.vecdot(y, dy).unsqueeze(-1)
        return torch.addcmul(dy, y, along, value=-1).mul_(rate), None


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        rate = (torch.linalg.vecdot(x, x) / x.shape[-1]).add_(eps).rsqrt_().unsqueeze(-1)
        ctx.save_for_backward(x, weight, rate)
        y: Tensor = (x * rate).mul_(weight)
        return y

    @staticmethod
    @once
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, rate = ctx.saved_tensors
        d = x.shape[-1]
        products = (dy * x).flatten(0, -2)
        dweight = rate.view(1, -1) @ products
        along = (products @ weight).view(rate.shape) * rate.square() / -d
        dx = (dy * weight).addcmul_(x, along).mul_(rate)
        return dx, dweight.view(d), None


class _Convolution(torch.autograd.Function):
    """Tap by tap, a few rows of the batch at a time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, tail: Tensor, bias: Tensor | None, activate: bool) -> Tensor:
        ctx.activate, ctx.biased = activate, bias is not None
        inputs, taps = torch.cat([tail, x], dim=1), weight[:, 0].t().contiguous()
        sums = torch.empty_like(x, memory_format=torch.contiguous_format)
        y = torch.empty_like(sums) if activate else sums
        for part in _parts(x):
            total = sum_of_taps(inputs[part], taps, bias, out=sums[part])
            if activate:
                torch.ops.aten.silu.out(total, out=y[part])
        ctx.save_for_backward(inputs, taps, sums if activate else None)
        return y

    @staticmethod
    @once
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        inputs, taps, sums = ctx.saved_tensors
        W, T = len(taps), dy.shape[1]
        d_inputs, d_taps = torch.empty_like(inputs), torch.zeros_like(taps)
        d_bias = taps.new_zeros(taps.shape[1]) if ctx.biased else None
        for part in _parts(dy):
            d_sum = torch.ops.aten.silu_backward(dy[part], sums[part]) if ctx.activate else dy[part]
            d_input = d_inputs[part]
            d_input[:, T:].zero_()
            torch.mul(d_sum, taps[0], out=d_input[:, :T])
            for start in range(W):
                if start:
                    d_input[:, start : start + T].addcmul_(d_sum, taps[start])
                d_taps[start] += (d_sum * inputs[part, start : start + T]).sum((0, 1))
            if d_bias is not None:
                d_bias += d_sum.sum((0, 1))
        return d_inputs[:, W - 1 :], d_taps.t()[:, None], d_inputs[:, : W - 1], d_bias, None


def _parts(x: Tensor) -> list[slice]:
    """Rows of x [B, T, D] that run together."""
    rows = max(CACHED // max(x[0].numel(), 1), 1)
    return [slice(start, start + rows) for start in range(0, len(x), rows)]
