"""The chunkwise operator as a `torch.autograd.Function`: segments forward, then from the last to the first."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gdn2.ops.triton.chunkwise import prepared, run_forward
from gdn2.ops.triton.layout import Segment
from gdn2.ops.triton.plan import Call, launchable


class Chunkwise(torch.autograd.Function):
    """`run_forward` with gradients; keeps the inputs and one state a segment."""

    @staticmethod
    def forward(ctx: Any, q, k, v, g, b, w, initial_state, scale, plan, segments):  # type: ignore[no-untyped-def]
        o, last, boundaries = run_forward(Call(q, k, v, g, b, w, scale, plan), initial_state, segments)
        ctx.save_for_backward(q, k, v, g, b, w, *boundaries)
        ctx.scale, ctx.plan, ctx.segments = scale, plan, segments
        return o, last

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, do, d_last):  # type: ignore[no-untyped-def]
        q, k, v, g, b, w, *boundaries = ctx.saved_tensors
        gradients: dict[str, Tensor] = {}
        adjoint = None if d_last is None else launchable(d_last.float())
        call, do = Call(q, k, v, g, b, w, ctx.scale, ctx.plan), launchable(do)
        for segment, state in zip(reversed(ctx.segments), reversed(boundaries), strict=True):
            adjoint = segment_gradients(call, segment, do, state, adjoint, gradients)
        found = tuple(gradients[name] for name in "qkvgbw")
        return *found, adjoint if ctx.needs_input_grad[6] else None, None, None, None


def segment_gradients(
    call: Call, segment: Segment, do: Tensor, state: Tensor | None, adjoint: Tensor | None,
    gradients: dict[str, Tensor],
) -> Tensor:  # fmt: skip
    """Fill the gradients of one segment's tokens; returns the adjoint of the state before it.

    Memory is used twice: the states S and adjoints H lie where the scans read their inputs, dP and dL where P and M do,
    and gradients are not there before they are needed.
    """
    plan, H, C, KP, VP = call.plan, call.H, call.plan.C, call.plan.KP, call.plan.VP
    slots = segment.num_chunks * H
    adjoints = plan.empty(slots, KP * VP)
    terms = prepared(call, segment, "prepare_backward", do, adjoints, None)
    A, S = terms.A, terms.B
    before, last = plan.empty_state(segment.N, H), plan.empty_state(segment.N, H)
    plan.launch(
        "scan_both_ways", 2 * segment.N * H, A, S, terms.carry, S,
        state, last, segment.offsets, H, segment.N, adjoints, adjoints, adjoint, before, None, None, None,
        HAS_FIRST=state is not None, HAS_AFTER=adjoint is not None,
    )  # fmt: skip
    del A, terms.A
    dv, dw = _allocate(gradients, v=call.v, w=call.w)
    U, Y = plan.empty(slots, C * VP), plan.empty(slots, C * VP)
    plan.launch(
        "value_gradients", slots, terms.M, terms.P, terms.E, terms.K, S, adjoints, call.v, call.w, do, U, Y,
        terms.P, terms.M, dv, dw, segment.starts, segment.lengths, call.scale, H,
    )  # fmt: skip
    dP, dL, by_level = terms.P, terms.M, terms.by_level
    del terms
    dq, dk, db, dg = _allocate(gradients, q=call.q, k=call.k, b=call.b, g=call.g)
    for kernel in ("key_gradients", "key_gradients_by_level"):
        plan.launch(
            kernel, slots, call.q, call.k, call.b, call.g, S, adjoints, do, U, Y, dP, dL, dq, dk, db, dg, by_level,
            segment.starts, segment.lengths, call.scale, H,
        )  # fmt: skip
    return before


def _allocate(gradients: dict[str, Tensor], **inputs: Tensor) -> tuple[Tensor, ...]:
    for name, x in inputs.items():
        if name not in gradients:
            gradients[name] = torch.empty_like(x)
    return tuple(gradients[name] for name in inputs)
