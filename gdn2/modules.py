"""The small layers around and inside a mixer: RMSNorm, SwiGLU, the short convolution with its state, rotary embedding.

Letters: B batch, T tokens, D channels, W taps, H heads, d channels of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, silu

L2_EPS = 1e-6


def wide(x: Tensor) -> Tensor:
    """x in at least float32."""
    return x if x.dtype == torch.float64 else x.float()


def unit_length(x: Tensor) -> Tensor:
    """x / |x| over the last dimension, computed in at least float32, returned in the dtype of x."""
    exact = wide(x)
    return (exact * (exact.square().sum(-1, keepdim=True) + L2_EPS).rsqrt()).to(x.dtype)


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension, or over each of `groups` equal parts of it; computed in at least
    float32, returned in the dtype of x."""

    def __init__(self, size: int, eps: float, groups: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        exact = wide(x)
        if self.groups > 1:
            exact = exact.unflatten(-1, (self.groups, -1))
        normed = exact * (exact.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return (normed.reshape(x.shape) * self.weight).to(x.dtype)


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), arXiv:2002.05202."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))


class ShortConvolution(nn.Module):
    """The taps of a causal depthwise convolution over the last W tokens."""

    def __init__(self, channels: int, taps: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, taps))  # the layout of nn.Conv1d with groups = channels
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None


def short_convolution(
    x: Tensor, weight: Tensor, tail: Tensor, bias: Tensor | None = None, *, activate: bool = True
) -> Tensor:
    """y_t = silu(bias + sum_j weight_j x_{t-W+1+j}), per channel; without silu unless `activate`.

    Args:
        x: inputs [B, T, D].
        weight: [D, 1, W], the last tap belongs to the current token.
        tail: the W - 1 inputs before x, [B, W - 1, D]; zeros at the start of a text.
        bias: [D].
    """
    padded = torch.cat([tail.to(x.dtype), x], dim=1).transpose(1, 2)
    y = conv1d(padded, weight, bias, groups=weight.shape[0]).transpose(1, 2)
    return silu(y) if activate else y


def last_inputs(x: Tensor, tail: Tensor, ends: Tensor | None) -> Tensor:
    """The next tail: the W - 1 inputs that end at each row's last real token.

    Args:
        x: inputs [B, T, D], zero at padding.
        tail: the previous tail [B, W - 1, D].
        ends: index behind each row's last real token, int64 [B], or None when that is T everywhere.
    """
    size = tail.shape[1]
    both = torch.cat([tail.to(x.dtype), x], dim=1)
    if ends is None:
        return both[:, both.shape[1] - size :].clone()  # a view would keep all of x
    index = ends[:, None] + torch.arange(size, device=x.device)
    return both.gather(1, index[..., None].expand(-1, -1, x.shape[2]))


def rotate_halves(x: Tensor, angle: Tensor) -> Tensor:
    """The rotary embedding (arXiv:2104.09864) with channel i paired with channel i + d/2: x [..., d] turned by the
    angles [..., d/2], in radians."""
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
