"""The operator on Triton kernels: the recurrent one for short inputs, the chunkwise ones for all others."""

from __future__ import annotations

import torch
from torch import Tensor

from gdn2.ops.overwriting import may_overwrite
from gdn2.ops.triton.chunkwise import run_forward
from gdn2.ops.triton.gradients import Chunkwise
from gdn2.ops.triton.launch import on_device_of
from gdn2.ops.triton.layout import longest_sequence, segments_of
from gdn2.ops.triton.plan import Call, launchable, plan_of

SHORT_INPUT = 16  # tokens up to which the recurrent kernel runs where no gradient is asked for


def triton_gated_delta_rule_2(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    b: Tensor,
    w: Tensor,
    scale: float,
    initial_state: Tensor | None = None,
    offsets: tuple[int, ...] | None = None,
) -> tuple[Tensor, Tensor]:
    """As `naive_gated_delta_rule_2`, by kernels; packed sequences are given by their `offsets`.

    A log-decay above zero, which cannot be looked for without waiting for the GPU, gives NaN.

    Raises:
        ValueError: dtypes other than float32, bfloat16 and float16, d_k above 256, or more programs than a launch has.
    """
    plan = plan_of(q, k, v, g, b, w)
    B, T, H, _ = q.shape
    if initial_state is not None and initial_state.dtype == torch.float64:
        raise ValueError("the triton backend keeps states in float32, got initial_state in torch.float64")
    q, k, v, g, b, w = (launchable(x) for x in (q, k, v, g, b, w))
    if initial_state is not None:
        initial_state = launchable(initial_state.float())
    inputs, call = (q, k, v, g, b, w, initial_state), Call(q, k, v, g, b, w, scale, plan)
    if T == 0 or B * H == 0 or plan.V == 0:
        N = B if offsets is None else len(offsets) - 1
        state = plan.empty_state(N, H).zero_() if initial_state is None else initial_state.clone()
        return torch.zeros_like(v), state
    with on_device_of(q):
        if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs):
            return Chunkwise.apply(*inputs, scale, plan, segments_of(offsets, B, T, H, plan.C, q.device))
        if longest_sequence(T, offsets) <= SHORT_INPUT:
            return run_recurrent(call, initial_state, offsets)
        segments = segments_of(offsets, B, T, H, plan.C, q.device)
        return run_forward(call, initial_state, segments)[:2]


def run_recurrent(call: Call, first: Tensor | None, offsets: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
    """Outputs [B, T, H, V] and the last state [N, H, K, V] by `recurrent_kernel`."""
    plan, (B, T, H, _) = call.plan, call.q.shape
    N = B if offsets is None else len(offsets) - 1
    o = torch.empty_like(call.v)
    last = first if first is not None and may_overwrite() else plan.empty_state(N, H)
    starts = None if offsets is None else torch.tensor(offsets, dtype=torch.int64).to(plan.device, non_blocking=True)
    kernel = "recurrent_fresh" if first is None else "recurrent"
    plan.launch(
        kernel, N * H, call.q, call.k, call.v, call.g, call.b, call.w, o, first, last, starts,
        call.scale, T, H, HAS_FIRST=first is not None, PACKED=offsets is not None,
    )  # fmt: skip
    return o, last
