"""The cross-entropy of logits with its gradient, which takes the logits' place: two passes over a row, nothing beside.

Letters: N positions, V vocabulary, BV tokens of a block.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gdn2.ops.triton.launch import ALIGNMENT, launcher_of, on_device_of

BLOCK = 4096  # BV


def cross_entropy_(logits: Tensor, targets: Tensor, scale: float, factor: float) -> Tensor:
    """The losses of all positions, computed in float32; logits are overwritten with the gradient of their sum.

    Args:
        logits: [N, V], contiguous, at an aligned address; afterwards the gradient of them, before they are scaled.
        targets: int64 [N].
        scale: what logits are multiplied with first; the product is rounded to their dtype.
        factor: what the gradient is multiplied with.

    Returns:
        float32 [N], without the factor.
    """
    N, V = logits.shape
    assert logits.is_contiguous()
    assert logits.data_ptr() % ALIGNMENT == 0
    losses = torch.empty(N, dtype=torch.float32, device=logits.device)
    if N:
        BV = min(BLOCK, max(16, triton.next_power_of_2(V)))
        constants = (("V", V), ("BV", BV), ("SCALES", scale != 1), ("num_warps", 8))
        aligned = targets.data_ptr() % ALIGNMENT == 0
        launch = launcher_of(cross_entropy_kernel, constants, (logits.dtype, aligned), logits.device)
        with on_device_of(logits):
            launch((N, 1, 1), logits, targets, losses, float(scale), float(factor))
    return losses


@triton.jit(do_not_specialize=["scale", "factor"])
def cross_entropy_kernel(
    p_logits, p_targets, p_losses, scale, factor, V: tl.constexpr, BV: tl.constexpr, SCALES: tl.constexpr,
):  # fmt: skip
    """One program for each position."""
    i, o_v = tl.program_id(0).to(tl.int64), tl.arange(0, BV)
    target = tl.load(p_targets + i)
    p_logits += i * V
    most, total, wanted = -float("inf"), 0.0, 0.0
    for first in range(0, V, BV):
        b_x = scaled(p_logits + first, o_v, V - first, scale, SCALES)
        new = tl.maximum(most, tl.max(b_x, axis=0))
        total = total * tl.exp(most - new) + tl.sum(tl.exp(b_x - new), axis=0)
        wanted += tl.sum(tl.where(first + o_v == target, b_x, 0.0), axis=0)
        most = new
    logarithm = most + tl.log(total)
    tl.store(p_losses + i, logarithm - wanted)
    for first in range(0, V, BV):
        b_x = scaled(p_logits + first, o_v, V - first, scale, SCALES)
        b_d = (tl.exp(b_x - logarithm) - tl.where(first + o_v == target, 1.0, 0.0)) * factor
        b_d = b_d.to(p_logits.dtype.element_ty)
        if SCALES:
            b_d = (b_d.to(tl.float32) * scale).to(p_logits.dtype.element_ty)
        tl.store(p_logits + first + o_v, b_d, mask=o_v < V - first)


@triton.jit
def scaled(p_x, o_v, count, scale, SCALES: tl.constexpr):
    """Logits in float32, those behind the last one -inf."""
    b_x = tl.load(p_x + o_v, mask=o_v < count, other=0.0)
    if SCALES:
        b_x = (b_x.to(tl.float32) * scale).to(p_x.dtype.element_ty)
    return tl.where(o_v < count, b_x.to(tl.float32), -float("inf"))
