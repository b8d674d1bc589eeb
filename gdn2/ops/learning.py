"""A layer's small steps with their gradients, each a kernel forward and one or two back.

`learns` says where they run: where `gdn2.ops.fused.fuses` would say yes but for a gradient that is asked for. They save
their inputs only, and compute in float32 whatever the dtype of their tensors. Under PyTorch's autocast their results
have its dtype, since linear layers, which would convert them, come next.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from gdn2.ops.fused import can_fuse
from gdn2.ops.orders import once
from gdn2.ops.products import weight_gradient
from gdn2.ops.remaking import Remade, flattened, note, recipe_of

MAX_TAPS = 4  # of a convolution


def learns(x: Tensor, *others: Tensor | None) -> bool:
    """Whether a step on these tensors runs as kernels with gradients; None where a step lacks a tensor."""
    if not torch.is_grad_enabled():
        return False
    tensors = [x, *(other for other in others if other is not None)]
    return any(t.requires_grad for t in tensors) and can_fuse(*tensors)


def convolves(x: Tensor, weight: Tensor, bias: Tensor | None, tail: Tensor) -> bool:
    """Whether `convolve` does it: few taps, and no gradient of the tail is asked for."""
    return weight.shape[-1] <= MAX_TAPS and not tail.requires_grad and learns(x, weight, bias, tail)


def rms_norm(x: Tensor, weight: Tensor, eps: float, gate: Tensor | None = None, activation: str = "none") -> Tensor:
    """`gdn2.ops.triton.norm.rms_norm` of one group, with gradients of x, weight and gate."""
    dtype = _dtype_of(x)
    y: Tensor = _RMSNorm.apply(x, weight, eps, gate, activation, dtype)  # type: ignore[no-untyped-call]
    if gate is None:  # several layers read it, each of which would make it again
        return y
    return note(y, partial(_normed, eps=eps, activation=activation, dtype=dtype), x, weight, gate)


def add_rms_norm(x: Tensor, added: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`gdn2.ops.triton.norm.add_rms_norm`, with gradients of x, added and weight; the sum is kept, not its parts."""
    dtype = _dtype_of(x, torch.promote_types(x.dtype, added.dtype))
    total, y = _AddRMSNorm.apply(x, added, weight, eps, dtype)  # type: ignore[no-untyped-call]
    return total, y


def halves(x: Tensor, weight: Tensor) -> bool:
    """Whether a product with a weight is to be taken by `product`: with gradients, in autocast's dtype."""
    return torch.is_autocast_enabled(x.device.type) and weight.dtype == torch.float32 and learns(x, weight)


def product(x: Tensor, weight: Tensor) -> Tensor:
    """PyTorch's linear(x, weight) under autocast; kept are the weight itself, not its copy in half precision, and x.

    Where x is noted to be made again, what it is made of is kept instead.
    """
    dtype = _dtype_of(x)
    recipe = recipe_of(x) if x.dtype == dtype else None
    y: Tensor = _Product.apply(x, weight, dtype, recipe)  # type: ignore[no-untyped-call]
    return y


def swiglu_down(gate: Tensor, up: Tensor, weight: Tensor) -> Tensor:
    """SwiGLU's product through its last linear layer, linear(silu(gate) * up, weight); the product is not kept."""
    y: Tensor = _SwiGLUDown.apply(gate, up, weight)  # type: ignore[no-untyped-call]
    return y


def decay(f: Tensor, A_log: Tensor, dt_bias: Tensor) -> Tensor:
    """`gdn2.ops.triton.mixing.decay`, with gradients; the operator does not keep it but makes it again."""
    g: Tensor = _Decay.apply(f, A_log, dt_bias)  # type: ignore[no-untyped-call]
    return note(g, _decayed, f, A_log, dt_bias)


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, tail: Tensor, head_size: int,
    *, activate: bool, unit_length: bool, eps: float,
) -> Tensor:  # fmt: skip
    """`gdn2.ops.triton.mixing.convolve` without padding, with gradients of all but the tail [B, W - 1, C].

    The operator does not keep its result but makes it again.
    """
    from gdn2.ops.triton.launch import launchable

    options: dict[str, Any] = {"activate": activate, "unit_length": unit_length, "eps": eps}
    tail = launchable(tail.to(x.dtype))
    y: Tensor = _Convolution.apply(x, weight, bias, tail, head_size, options)  # type: ignore[no-untyped-call]
    return note(y, partial(_convolved, head_size=head_size, **options), x, weight, bias, tail)


def _normed(
    x: Tensor, weight: Tensor, gate: Tensor | None, *, eps: float, activation: str, dtype: torch.dtype
) -> Tensor:
    from gdn2.ops.triton.norm import rms_norm as by_kernel

    return by_kernel(x, weight, eps, 1, gate, activation, dtype=dtype)


def _decayed(f: Tensor, A_log: Tensor, dt_bias: Tensor) -> Tensor:
    from gdn2.ops.triton.mixing import decay as by_kernel

    return by_kernel(f, A_log, dt_bias)


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, tail: Tensor, **options: Any) -> Tensor:
    from gdn2.ops.triton.launch import launchable
    from gdn2.ops.triton.mixing import convolve as by_kernel

    bias = None if bias is None else launchable(bias)
    return by_kernel(x, weight, bias, tail, torch.empty_like(tail), bounds=None, **options)


def _dtype_of(x: Tensor, usual: torch.dtype | None = None) -> torch.dtype:
    """The dtype in which linear layers will take a tensor: without autocast `usual`, by default what it has."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else usual or x.dtype


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, eps: float, gate: Tensor | None, activation: str, dtype: torch.dtype
    ) -> Tensor:
        from gdn2.ops.triton.launch import launchable

        x, weight = launchable(x), launchable(weight)
        gate = None if gate is None else launchable(gate)
        ctx.save_for_backward(x, weight, gate)
        ctx.eps, ctx.activation = eps, activation
        return _normed(x, weight, gate, eps=eps, activation=activation, dtype=dtype)

    @staticmethod
    @once
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        from gdn2.ops.triton.norm_gradients import rms_norm_gradients

        x, weight, gate = ctx.saved_tensors
        dx, dweight, dgate = rms_norm_gradients(dy, x, weight, ctx.eps, gate, ctx.activation)
        return dx, dweight.to(weight.dtype), None, dgate, None, None


class _AddRMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, added: Tensor, weight: Tensor, eps: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        from gdn2.ops.triton.launch import launchable
        from gdn2.ops.triton.norm import add_rms_norm as by_kernel

        weight = launchable(weight)
        total, y = by_kernel(x, added, weight, eps, dtype=dtype)
        ctx.save_for_backward(total, weight)
        ctx.eps, ctx.dtypes = eps, (x.dtype, added.dtype)
        ctx.set_materialize_grads(False)
        return total, y

    @staticmethod
    @once
    def backward(ctx: Any, d_total: Tensor | None, dy: Tensor | None) -> tuple[Tensor | None, ...]:
        from gdn2.ops.triton.norm_gradients import add_rms_norm_gradients

        total, weight = ctx.saved_tensors
        of_x, of_added = ctx.dtypes
        if dy is None:
            assert d_total is not None
            return d_total.to(of_x), d_total.to(of_added), None, None, None
        dx, d_added, dweight = add_rms_norm_gradients(d_total, dy, total, weight, ctx.eps, of_added)
        return dx.to(of_x), d_added, dweight.to(weight.dtype), None, None


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dtype: torch.dtype, recipe: Remade | None) -> Tensor:
        ctx.dtype = x.dtype
        x = x.to(dtype)
        ctx.kept, flat = flattened((x,), (recipe,))
        ctx.save_for_backward(weight, *flat)
        return linear(x, weight.to(dtype))

    @staticmethod
    @once
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weight, *flat = ctx.saved_tensors
        (x,) = ctx.kept.restored(flat)
        dy = dy.to(x.dtype)
        dweight = dy.flatten(0, -2).t() @ x.flatten(0, -2)
        return (dy @ weight.to(x.dtype)).to(ctx.dtype), dweight.to(weight.dtype), None, None


class _SwiGLUDown(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, weight: Tensor) -> Tensor:
        from gdn2.ops.triton.launch import launchable
        from gdn2.ops.triton.norm import swiglu

        gate, up = launchable(gate), launchable(up)
        ctx.save_for_backward(gate, up, weight)
        inner = swiglu(gate, up)
        return linear(inner, weight.to(inner.dtype))

    @staticmethod
    @once
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        from gdn2.ops.triton.steps import swiglu_gradients

        gate, up, weight = ctx.saved_tensors
        dy = dy.to(gate.dtype)
        dgate, dup, inner = swiglu_gradients(dy @ weight.to(dy.dtype), gate, up)
        return dgate, dup, weight_gradient(dy.flatten(0, -2), inner.flatten(0, -2), weight.dtype)


class _Decay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, f: Tensor, A_log: Tensor, dt_bias: Tensor) -> Tensor:
        from gdn2.ops.triton.launch import launchable

        f, A_log, dt_bias = launchable(f), launchable(A_log), launchable(dt_bias)
        ctx.save_for_backward(f, A_log, dt_bias)
        return _decayed(f, A_log, dt_bias)

    @staticmethod
    @once
    def backward(ctx: Any, dg: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        from gdn2.ops.triton.steps import decay_gradients

        f, A_log, dt_bias = ctx.saved_tensors
        df, of_rate, of_bias = decay_gradients(dg, f, A_log, dt_bias)
        return df, of_rate.to(A_log.dtype), of_bias.to(dt_bias.dtype)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        tail: Tensor,
        head_size: int,
        options: dict[str, Any],
    ) -> Tensor:
        from gdn2.ops.triton.launch import launchable

        x, weight = launchable(x), launchable(weight)
        bias = None if bias is None else launchable(bias)
        ctx.save_for_backward(x, weight, bias, tail)
        ctx.head_size, ctx.options = head_size, options
        return _convolved(x, weight, bias, tail, head_size=head_size, **options)

    @staticmethod
    @once
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        from gdn2.ops.triton.steps import convolution_gradients

        x, weight, bias, tail = ctx.saved_tensors
        dx, dweight, dbias = convolution_gradients(dy, x, weight, bias, tail, ctx.head_size, **ctx.options)
        return dx, dweight.to(weight.dtype), None if dbias is None else dbias.to(bias.dtype), None, None, None
