"""What the references of mixers share: parameters by name, linear layers, norms, convolution and rotation in float64.

Letters: T tokens, D width, W taps, d channels.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

zeros = partial(torch.zeros, dtype=torch.float64)


def parameters(mixer: Any) -> dict[str, Tensor]:
    """The parameters of a module by name, in float64."""
    return {name: parameter.detach().double() for name, parameter in mixer.named_parameters()}


def linear(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """W x + b of the linear layer of that name; b may be missing."""
    y = x @ p[f"{name}.weight"].T
    return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


def low_rank(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Two linear layers after each other."""
    return linear(p, f"{name}.1", linear(p, f"{name}.0", x))


def rms(x: Tensor, eps: float) -> Tensor:
    """Divide x by the root of its mean square over the last dimension."""
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps)


def convolve(x: Tensor, taps: Tensor, bias: Tensor | None) -> Tensor:
    """Compute y_t = bias + sum_j taps_j x_{t-W+1+j} a channel, x [T, D]."""
    y = zeros(x.shape) if bias is None else bias.expand(x.shape).clone()
    W = taps.shape[-1]
    for t in range(len(x)):
        for j in range(max(W - 1 - t, 0), W):
            y[t] += taps[:, 0, j] * x[t - W + 1 + j]
    return y


def rotate(x: Tensor, angle: Tensor, *, adjacent: bool = False) -> Tensor:
    """Turn the first pairs of x [..., d] by the angles; pairs are (2i, 2i + 1) or (i, i + d/2)."""
    y, half = x.clone(), x.shape[-1] // 2
    for i in range(len(angle)):
        first, second = (2 * i, 2 * i + 1) if adjacent else (i, i + half)
        cos, sin = torch.cos(angle[i]), torch.sin(angle[i])
        y[..., first] = cos * x[..., first] - sin * x[..., second]
        y[..., second] = sin * x[..., first] + cos * x[..., second]
    return y
