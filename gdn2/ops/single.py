"""One token of the recurrence: what `gdn2.ops.naive` does for it, in as few operations as PyTorch has for it.

A decoding step of a small model on a CPU takes as long as its operations are many.
"""

from __future__ import annotations

from torch import Tensor


def single_gated_delta_rule_2(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor, w: Tensor, scale: float, initial_state: Tensor
) -> tuple[Tensor, Tensor]:
    """The same as `naive_gated_delta_rule_2` for inputs of one token [B, 1, H, d]."""
    dtype, out = initial_state.dtype, v.dtype
    if any(x.dtype != dtype for x in (q, k, v, g, b, w)):
        q, k, v, g, b, w = (x.to(dtype) for x in (q, k, v, g, b, w))
    decayed = g.permute(0, 2, 3, 1).exp() * initial_state  # [B, H, K, V]
    erased = (b * k).transpose(1, 2) @ decayed  # [B, H, 1, V]
    written = (w * v).transpose(1, 2) - erased
    state = (k.permute(0, 2, 3, 1) * written).add_(decayed)
    o = (q.transpose(1, 2) @ state).transpose(1, 2) * scale
    return o.to(out), state
