"""The recurrence token by token: the specification that every other backend is tested against.

Per head, with the state S of shape [d_k, d_v] (Gated DeltaNet-2, arXiv:2605.22791, the gated delta rule-2):

    S_t = (I - k_t (b_t * k_t)^T) Diag(exp g_t) S_{t-1} + k_t (w_t * v_t)^T
    o_t = scale * S_t^T q_t

Letters: B batch, T tokens, H heads, K key dim, V value dim.
"""

from __future__ import annotations

import torch
from torch import Tensor


def recurrent_step(
    state_BHKV: Tensor, q_BHK: Tensor, k_BHK: Tensor, v_BHV: Tensor, g_BHK: Tensor, b_BHK: Tensor, w_BHV: Tensor
) -> tuple[Tensor, Tensor]:
    """One token of the recurrence: the unscaled output [B, H, V] and the new state [B, H, K, V]."""
    decayed_BHKV = g_BHK.exp()[..., None] * state_BHKV
    erased_BHV = torch.einsum("bhk,bhkv->bhv", b_BHK * k_BHK, decayed_BHKV)
    state_BHKV = decayed_BHKV + k_BHK[..., None] * (w_BHV * v_BHV - erased_BHV)[..., None, :]
    return torch.einsum("bhk,bhkv->bhv", q_BHK, state_BHKV), state_BHKV


def naive_gated_delta_rule_2(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor, w: Tensor, scale: float, initial_state: Tensor
) -> tuple[Tensor, Tensor]:
    """The recurrence as a loop over tokens, in the dtype of `initial_state` (float32 or float64).

    Args:
        q: queries [B, T, H, K].
        k: keys [B, T, H, K].
        v: values [B, T, H, V].
        g: log-decay [B, T, H, K].
        b: erase gates [B, T, H, K].
        w: write gates [B, T, H, V].
        scale: factor of the outputs.
        initial_state: [B, H, K, V].

    Returns:
        The outputs [B, T, H, V] in the dtype of v, and the final state [B, H, K, V].
    """
    dtype, state = initial_state.dtype, initial_state
    steps = [x.to(dtype).unbind(1) for x in (q, k, v, g, b, w)]
    outputs = []
    for inputs in zip(*steps, strict=True):
        o_BHV, state = recurrent_step(state, *inputs)
        outputs.append(o_BHV)
    o = torch.stack(outputs, dim=1) * scale if outputs else v.new_zeros(v.shape)
    return o.to(v.dtype), state
