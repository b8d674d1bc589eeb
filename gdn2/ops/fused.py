"""Whether the small steps of a layer (norms, short convolution, decay) run as Triton kernels of one pass each.

They do where the operator itself runs as a Triton kernel and no gradient is asked for; where one is, those of
gdn2/ops/learning.py do. Elsewhere PyTorch's operations
run, which are the specification of these kernels (gdn2/modules.py).

A decoding step of a small model on a CPU is some hundred operations of a microsecond each, so there a layer asks one
question only, `reaches_kernels`, and that is cheap.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

from gdn2.ops.backends import BACKEND_VARIABLE, TRITON_DTYPES, resolve_backend

INTERPRETS = os.environ.get("TRITON_INTERPRET") == "1"  # Triton reads it when it is imported, too


def reaches_kernels(x: Tensor) -> bool:
    """Whether there are kernels where x is, be it with gradients or without: on a GPU, in tests also on a CPU."""
    return x.is_cuda or (INTERPRETS and os.environ.get(BACKEND_VARIABLE) == "triton")


def fuses(x: Tensor, *others: Tensor | None) -> bool:
    """Whether a step on these tensors runs as a kernel; None where a step lacks a tensor."""
    if not reaches_kernels(x):
        return False
    tensors = [x, *(other for other in others if other is not None)]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return False
    return can_fuse(*tensors)


def can_fuse(x: Tensor, *others: Tensor) -> bool:
    """Whether there are kernels for tensors of this device and these dtypes."""
    if not reaches_kernels(x):
        return False
    tensors = (x, *others)
    if any(tensor.dtype not in TRITON_DTYPES or tensor.device != x.device for tensor in tensors):
        return False
    return resolve_backend("auto", 1, x.device, torch.float32, 1) == "triton"
