"""The operator by Triton kernels: the recurrent one for short inputs, the chunkwise ones for all others."""

from __future__ import annotations

import torch
from torch import Tensor

from gdn2.ops.overwriting import may_overwrite
from gdn2.ops.remaking import recipe_of
from gdn2.ops.triton.chunkwise import run_forward
from gdn2.ops.triton.gradients import Chunkwise
from gdn2.ops.triton.kernel_set import Call, KernelSet, kernels_for
from gdn2.ops.triton.launch import launchable, on_device_of
from gdn2.ops.triton.layout import longest_sequence, segments_of
from gdn2.ops.triton.variants import RECURRENT, RECURRENT_FRESH

SHORT_INPUT = 16  # up to so many tokens the recurrent kernel runs, where no gradient is asked for


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
    kernels: KernelSet | None = None,
) -> tuple[Tensor, Tensor]:
    """As `naive_gated_delta_rule_2`, by kernels.

    A log-decay above zero gives NaN, since looking for one would mean to wait for the GPU.

    Args:
        q: queries [B, T, H, K].
        k: keys [B, T, H, K].
        v: values [B, T, H, V].
        g: log-decay [B, T, H, K].
        b: erase gates [B, T, H, K].
        w: write gates [B, T, H, V].
        scale: factor of the outputs.
        initial_state: [N, H, K, V]; None: zeros.
        offsets: of N packed sequences, N + 1 of them; None: each row is a sequence.
        kernels: the kernels to run, `kernels_for` these inputs if None; tuning gives sets of its own.

    Returns:
        The outputs [B, T, H, V] in the dtype of v and the last state [N, H, K, V] in float32.

    Raises:
        ValueError: a dtype is none of float32, bfloat16 and float16, or the initial state is in float64; d_k is above
            256; the call needs more programs than a launch can have.
    """
    if kernels is None:
        kernels = kernels_for(q, k, v, g, b, w)
    B, T, H, _ = q.shape
    if initial_state is not None and initial_state.dtype == torch.float64:
        raise ValueError("the triton backend keeps states in float32, got initial_state in torch.float64")
    recipes = tuple(recipe_of(x) for x in (q, k, v, g, b, w))
    q, k, v, g, b, w = (launchable(x) for x in (q, k, v, g, b, w))
    if initial_state is not None:
        initial_state = launchable(initial_state.float())
    inputs, call = (q, k, v, g, b, w, initial_state), Call(q, k, v, g, b, w, scale, kernels)
    if T == 0 or B * H == 0 or kernels.V == 0:
        N = B if offsets is None else len(offsets) - 1
        state = kernels.empty_state(N, H).zero_() if initial_state is None else initial_state.clone()
        return torch.zeros_like(v), state
    longest = longest_sequence(T, offsets)
    learning = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    with on_device_of(q):
        if longest <= SHORT_INPUT and not learning:
            return run_recurrent(call, initial_state, offsets)
        sequences = (B if offsets is None else len(offsets) - 1) * H
        times = kernels.times(sequences, longest, learning=learning)
        segments = segments_of(offsets, B, T, H, kernels.C, q.device, times=times)
        if learning:
            o, last = Chunkwise.apply(*inputs, scale, kernels, segments, recipes)  # type: ignore[no-untyped-call]
            return o, last
        return run_forward(call, initial_state, segments, keep=False)[:2]


def run_recurrent(call: Call, first: Tensor | None, offsets: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
    """Outputs [B, T, H, V] and the last state [N, H, K, V], token by token.

    Args:
        call: the inputs.
        first: the initial state [N, H, K, V], which may be overwritten if `may_overwrite` says so; None: zeros.
        offsets: of packed sequences; None: each row is a sequence.
    """
    kernels, (B, T, H, _) = call.kernels, call.q.shape
    N = B if offsets is None else len(offsets) - 1
    o = torch.empty_like(call.v)
    last = first if first is not None and may_overwrite() else kernels.empty_state(N, H)
    starts = None if offsets is None else torch.tensor(offsets, dtype=torch.int64).to(kernels.device, non_blocking=True)
    variant = RECURRENT_FRESH if first is None else RECURRENT
    kernels.launch(
        variant, N * H, call.q, call.k, call.v, call.g, call.b, call.w, o, first, last, starts,
        call.scale, T, H, HAS_FIRST=first is not None, PACKED=offsets is not None,
    )  # fmt: skip
    return o, last
