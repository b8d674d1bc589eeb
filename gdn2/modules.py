"""The small layers around and inside a mixer: RMSNorm, SwiGLU, the short convolution with its state, rotary embedding.

PyTorch's operations are the specification; where `fuses` says so a kernel does the same in one pass.

Letters: B batch, T tokens, D channels, W taps, H heads, d channels of a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, linear, silu

from gdn2.ops import learning, onednn, small
from gdn2.ops.fused import fuses, reaches_kernels
from gdn2.ops.thin import thins
from gdn2.padding import Padding
from gdn2.products import Products

L2_EPS = 1e-6
MAX_NORM = 16384  # channels that one program of the kernel takes
SUMMED_DTYPES = (torch.float32, torch.bfloat16)  # of which a CPU's convolution sums up in float32, tap by tap


def wide(x: Tensor) -> Tensor:
    """Bring x to at least float32."""
    return x if x.dtype == torch.float64 else x.float()


def unit_length(x: Tensor) -> Tensor:
    """Compute x / |x| over the last dimension, in at least float32, and return it in the dtype of x."""
    if torch.is_grad_enabled() and small.learns_on_cpu(x):
        return small.unit(x, L2_EPS)
    exact = wide(x)
    return (exact * (exact.square().sum(-1, keepdim=True) + L2_EPS).rsqrt()).to(x.dtype)


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension, or over each of `groups` equal parts of it.

    It is computed in at least float32 and returned in the dtype of x. A norm that is zero-centred stores its weight
    less 1.
    """

    def __init__(self, size: int, eps: float, groups: int = 1, *, zero_centred: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((size,), 0.0 if zero_centred else 1.0))
        self.eps = eps
        self.groups = groups
        self.zero_centred = zero_centred

    @property
    def scale(self) -> Tensor:
        """What is multiplied with."""
        return 1 + wide(self.weight) if self.zero_centred else self.weight

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [..., size]."""
        if reaches_kernels(x):
            if self._fuses(x):
                from gdn2.ops.triton.norm import rms_norm

                return rms_norm(x, self.scale, self.eps, self.groups)
            if self._learns(x):
                return learning.rms_norm(x, self.scale, self.eps)
        elif self.groups == 1 and torch.is_grad_enabled() and small.learns_on_cpu(x, self.weight):
            return small.normed(x, self.scale, self.eps)
        exact = wide(x)
        if self.groups > 1:
            exact = exact.unflatten(-1, (self.groups, -1))
        normed = exact * (exact.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return (normed.reshape(x.shape) * self.scale).to(x.dtype)

    def of_sum(self, x: Tensor, added: Tensor | None) -> tuple[Tensor, Tensor]:
        """The sum x + added [..., size], or x where nothing is added, and `self` of it."""
        if added is None:
            return x, self(x)
        if reaches_kernels(x) and self.groups == 1 and x.shape == added.shape:
            if self._fuses(x, added):
                from gdn2.ops.triton.norm import add_rms_norm

                return add_rms_norm(x, added, self.scale, self.eps)
            if self._learns(x, added):
                return learning.add_rms_norm(x, added, self.scale, self.eps)
        x = x + added
        return x, self(x)

    def gated(self, x: Tensor, gate: Tensor, activation: str) -> Tensor:
        """`self(x) * activation(gate)`, by "sigmoid" or "silu"; x and gate of one shape."""
        if reaches_kernels(x):
            if self._fuses(x, gate):
                from gdn2.ops.triton.norm import rms_norm

                return rms_norm(x, self.scale, self.eps, self.groups, gate, activation)
            if self._learns(x, gate):
                return learning.rms_norm(x, self.scale, self.eps, gate, activation)
        return self.forward(x) * (silu(gate) if activation == "silu" else torch.sigmoid(gate))

    def _fuses(self, x: Tensor, gate: Tensor | None = None) -> bool:
        return self.weight.numel() // self.groups <= MAX_NORM and fuses(x, self.weight, gate)

    def _learns(self, x: Tensor, gate: Tensor | None = None) -> bool:
        return self.groups == 1 and self.weight.numel() <= MAX_NORM and learning.learns(x, self.weight, gate)


class Head(nn.Linear):
    """The layer behind the last norm, [..., D] to logits [..., vocabulary]."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x [..., in_features] to [..., out_features]."""
        return onednn.wide_linear(x, self.weight, self.bias)


class Linear(nn.Linear):
    """PyTorch's, but what it keeps under autocast (`gdn2.ops.learning.product`), and its kernel in decoding steps."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x [..., in_features] to [..., out_features]."""
        weight, bias = self.weight, self.bias
        if not reaches_kernels(x):
            size = self.in_features * self.out_features  # as wide_linear asks, without a call
            is_small = size < onednn.LARGE and x.numel() * self.out_features < onednn.LEAST
            return linear(x, weight, bias) if is_small else onednn.wide_linear(x, weight, bias)
        if bias is None and learning.halves(x, weight):
            return learning.product(x, weight)
        if thins(x, weight, bias):
            from gdn2.ops.triton.thin import products

            return products(x, [weight], None if bias is None else [bias])[0]
        return linear(x, weight, bias)


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), arXiv:2002.05202."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_proj = Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [..., hidden_size] to y of the same shape."""
        if reaches_kernels(x):
            return self._by_kernels(x)
        y: Tensor = self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))
        return y

    def _by_kernels(self, x: Tensor) -> Tensor:
        """The same by kernels, as far as there are any for x."""
        weights = (self.gate_proj.weight, self.up_proj.weight)
        if thins(x, *weights):
            from gdn2.ops.triton.thin import swiglu_product

            thin: Tensor = self.down_proj(swiglu_product(x, *weights))
            return thin
        read = Products(x, (self.gate_proj, self.up_proj))
        gate, up = read(self.gate_proj), read(self.up_proj)
        if fuses(gate, up):
            from gdn2.ops.triton.norm import swiglu

            inner = swiglu(gate, up)
        elif learning.learns(gate, up):
            return learning.swiglu_down(gate, up, self.down_proj.weight)
        else:
            inner = silu(gate) * up
        y: Tensor = self.down_proj(inner)
        return y


class ShortConvolution(nn.Module):
    """The taps of a causal depthwise convolution over the last W tokens."""

    def __init__(self, channels: int, taps: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, taps))  # the layout of nn.Conv1d with groups = channels
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, tail: Tensor, padding: Padding | None, *, activate: bool = True
) -> tuple[Tensor, Tensor]:
    """`short_convolution` of x [B, T, D] with padding counted as zeros, and the tail for what comes next."""
    if reaches_kernels(x) and fuses(x, weight, bias, tail) and x.dtype == tail.dtype:
        from gdn2.ops.triton.mixing import convolve as by_kernel

        tail = tail.contiguous()  # the kernel asks for two tails of the same strides
        next_tail, head = torch.empty_like(tail), math.gcd(x.shape[-1], 128)
        bounds = None if padding is None else padding.bounds
        y = by_kernel(
            x, weight, bias, tail, next_tail, head, activate=activate, unit_length=False, eps=L2_EPS, bounds=bounds
        )
        return y, next_tail
    if padding is None and reaches_kernels(x) and learning.convolves(x, weight, bias, tail):
        head = math.gcd(x.shape[-1], 128)
        y = learning.convolve(x, weight, bias, tail, head, activate=activate, unit_length=False, eps=L2_EPS)
        return y, last_inputs(x, tail, None)
    if padding is not None:
        x = x.masked_fill(padding.is_pad, 0.0)
    next_tail = last_inputs(x, tail, None if padding is None else padding.ends)
    return short_convolution(x, weight, tail, bias, activate=activate), next_tail


def short_convolution(
    x: Tensor, weight: Tensor, tail: Tensor, bias: Tensor | None = None, *, activate: bool = True
) -> Tensor:
    """Compute y_t = silu(bias + sum_j weight_j x_{t-W+1+j}), per channel.

    Args:
        x: inputs [B, T, D].
        weight: [D, 1, W], the last tap belongs to the current token.
        tail: the W - 1 inputs before x, [B, W - 1, D]; zeros at the start of a text.
        bias: [D].
        activate: whether there is the silu.
    """
    tail = tail.to(x.dtype)
    if torch.is_grad_enabled() and small.learns_on_cpu(x, weight, tail, bias):
        return small.convolved(x, weight, tail, bias, activate=activate)
    if tail.shape[1] and x.device.type == "cpu" and x.dtype in SUMMED_DTYPES and not torch.is_grad_enabled():
        y = _tap_by_tap(x, weight, tail, bias)
        return silu(y, inplace=True) if activate else y
    y = conv1d(torch.cat([tail, x], dim=1).transpose(1, 2), weight, bias, groups=weight.shape[0]).transpose(1, 2)
    return silu(y) if activate else y


def _tap_by_tap(x: Tensor, weight: Tensor, tail: Tensor, bias: Tensor | None) -> Tensor:
    """`short_convolution` without its silu; conv1d takes two to eight times as long, most of it to transpose x.

    Sums are taken in its order, in float32 and with each product unrounded, so that no bit differs from it.
    """
    inputs, taps = wide(torch.cat([tail, x], dim=1)), wide(weight[:, 0].t().contiguous())
    return small.sum_of_taps(inputs, taps, None if bias is None else wide(bias)).to(x.dtype)


def last_inputs(x: Tensor, tail: Tensor, ends: Tensor | None) -> Tensor:
    """The next tail: the W - 1 inputs that end at each row's last real token.

    Args:
        x: inputs [B, T, D], zero at padding.
        tail: the previous tail [B, W - 1, D].
        ends: index behind each row's last real token, int64 [B], or None when that is T everywhere.
    """
    size, T, tail = tail.shape[1], x.shape[1], tail.to(x.dtype)
    if ends is None:
        return torch.cat([tail[:, T:], x[:, max(T - size, 0) :]], dim=1)
    index = (ends[:, None] + torch.arange(size, device=x.device))[..., None].expand(-1, -1, x.shape[2])
    if not size or not T:
        return tail
    new, old = x.gather(1, (index - size).clamp(min=0)), tail.gather(1, index.clamp(max=size - 1))
    return torch.where(index >= size, new, old)


def rotate_halves(x: Tensor, angle: Tensor) -> Tensor:
    """Turn x [..., d] by the angles [..., d/2], in radians: the rotary embedding (arXiv:2104.09864).

    Channel i is paired with channel i + d/2.
    """
    return turn_halves(x, angle.cos().to(x.dtype), angle.sin().to(x.dtype))


def turn_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """As `rotate_halves`, by the cosines and sines of the angles, in the dtype of x."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
