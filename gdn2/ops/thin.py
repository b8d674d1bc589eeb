"""Whether products of a few rows with weights run as the kernel for them: in decoding steps in place, on a GPU.

There the time is that of reading the weights. Elsewhere PyTorch's products run, which are the specification.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gdn2.ops.fused import fuses
from gdn2.ops.overwriting import may_overwrite


def thins(x: Tensor, *others: Tensor | None) -> bool:
    """Whether products of x [..., K] with these weights [N, K] run as one launch; biases [N] may be among them.

    A layer that lacks a bias gives None.
    """
    tensors = [other for other in others if other is not None]
    if not may_overwrite() or torch.is_autocast_enabled(x.device.type) or not fuses(x, *tensors):
        return False
    if any(tensor.dtype != x.dtype or not tensor.is_contiguous() for tensor in tensors):
        return False
    if x.dtype == torch.bfloat16 and not x.is_cuda:  # Triton's interpreter makes no products of bfloat16
        return False
    from gdn2.ops.triton.thin import are_thin

    return are_thin(x.numel() // max(x.shape[-1], 1), [tensor for tensor in tensors if tensor.ndim == 2])
