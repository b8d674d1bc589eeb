"""The small layers around a mixer: RMSNorm, SwiGLU and the short convolution with its state.

Letters: B batch, T tokens, D channels, W taps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, silu


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension, computed in at least float32, returned in the dtype of x."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        return (wide * (wide.square().mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight).to(x.dtype)


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
    """The taps of a causal depthwise convolution over the last W tokens, without bias."""

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, taps))  # the layout of nn.Conv1d with groups = channels


def short_convolution(x: Tensor, weight: Tensor, tail: Tensor) -> Tensor:
    """y_t = silu(sum_j weight_j x_{t-W+1+j}), per channel.

    Args:
        x: inputs [B, T, D].
        weight: [D, 1, W], the last tap belongs to the current token.
        tail: the W - 1 inputs before x, [B, W - 1, D]; zeros at the start of a text.
    """
    padded = torch.cat([tail.to(x.dtype), x], dim=1).transpose(1, 2)
    return silu(conv1d(padded, weight, groups=weight.shape[0]).transpose(1, 2))


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
        return both[:, both.shape[1] - size :].contiguous()
    index = ends[:, None] + torch.arange(size, device=x.device)
    return both.gather(1, index[..., None].expand(-1, -1, x.shape[2]))
