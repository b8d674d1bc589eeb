"""Gradients that are written out, and when autograd's own are needed instead: of higher order, or forward."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from gdn2.ops.backends import BACKEND_VARIABLE

PLAIN = (Tensor, nn.Parameter)
"""Types of tensors that have no operations of their own, as a subclass may."""
_in_transforms: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)


def writes_gradients() -> bool:
    """Whether gradients may be those that are written out, which reverse mode can take once.

    Not inside `torch.func`'s transforms or forward mode, nor where GDN2_BACKEND is "naive", which autograd goes through
    in any order.
    """
    is_forward = getattr(forward_ad, "_current_level", -1) >= 0
    return not is_forward and os.environ.get(BACKEND_VARIABLE) != "naive" and not _in_transforms()


def once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """The way back of a `torch.autograd.Function` that has no gradients itself, and says so when it is asked for them.

    PyTorch's `once_differentiable` raises only where gradients go all the way through what it returns; gradients of
    gradients by `torch.autograd.grad` with named inputs leave it out, and are wrong without a word.
    """

    @functools.wraps(backward)
    def run(ctx: Any, *gradients: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "gradients of gradients (create_graph=True) go through no kernel, nor through steps with gradients of "
                f"their own; {BACKEND_VARIABLE}=naive runs all by autograd on a CPU"
            )
        return backward(ctx, *gradients)

    return run
