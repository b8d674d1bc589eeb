"""The chunkwise operator as a `torch.autograd.Function`.

The forward pass takes the segments in order, the backward pass from the last to the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gdn2.ops.orders import once
from gdn2.ops.remaking import Remade, flattened
from gdn2.ops.triton.chunkwise import run_forward
from gdn2.ops.triton.kernel_set import Call, KernelSet
from gdn2.ops.triton.launch import launchable
from gdn2.ops.triton.layout import Segment
from gdn2.ops.triton.variants import (
    KEY_GRADIENTS,
    KEY_GRADIENTS_BY_LEVEL,
    PREPARE_BACKWARD,
    PREPARE_BACKWARD_BY_LEVEL,
    SCAN_BOTH_WAYS,
    VALUE_GRADIENTS,
)


@dataclass
class ChunkTerms:
    """What the chunks of a segment contribute to gradients before their state is known (prepare.py).

    Attributes:
        P: decayed inner products of queries and keys.
        M: (I + L)^-1, with the decayed inner products L of erase vectors and keys.
        E: erase vectors with the decay since the start of the chunk, E+.
        K: keys with the decay until the end of the chunk, K-.
        carry: the decay of a whole chunk, one number a key channel.
        by_level: 1 for chunks whose decay is too strong for a single reference, else 0.
        A: the matrix of the affine map that a chunk is for its state.
        B: what that map adds.
    """

    P: Tensor
    M: Tensor
    E: Tensor
    K: Tensor
    carry: Tensor
    by_level: Tensor
    A: Tensor
    B: Tensor


class Chunkwise(torch.autograd.Function):
    """`run_forward` with gradients; it keeps the inputs, or what they are made of, and one state for each segment."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor, w: Tensor, initial_state: Tensor | None,
        scale: float, kernels: KernelSet, segments: tuple[Segment, ...], recipes: tuple[Remade | None, ...],
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Outputs and the last state, as `run_forward` gives them."""
        call = Call(q, k, v, g, b, w, scale, kernels)
        o, last, boundaries = run_forward(call, initial_state, segments, keep=True)
        ctx.kept, flat = flattened((q, k, v, g, b, w), recipes)
        ctx.save_for_backward(*boundaries, *flat)
        ctx.num_boundaries = len(boundaries)
        ctx.scale, ctx.kernels, ctx.segments = scale, kernels, segments
        return o, last

    @staticmethod
    @once
    def backward(ctx: Any, do: Tensor, d_last: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of the six inputs and of the initial state, from those of the outputs and of the last state."""
        saved, n = ctx.saved_tensors, ctx.num_boundaries
        boundaries, (q, k, v, g, b, w) = saved[:n], ctx.kept.restored(saved[n:])
        gradients: dict[str, Tensor] = {}
        adjoint = None if d_last is None else launchable(d_last.float())
        call, do = Call(q, k, v, g, b, w, ctx.scale, ctx.kernels), launchable(do)
        for segment, state in zip(reversed(ctx.segments), reversed(boundaries), strict=True):
            adjoint = segment_gradients(call, segment, do, state, adjoint, gradients)
        found = tuple(gradients[name] for name in "qkvgbw")
        return *found, adjoint if ctx.needs_input_grad[6] else None, None, None, None, None


def segment_gradients(
    call: Call, segment: Segment, do: Tensor, state: Tensor | None, adjoint: Tensor | None,
    gradients: dict[str, Tensor],
) -> Tensor:  # fmt: skip
    """Fill in the gradients of one segment's tokens.

    Memory is used twice: the states S and adjoints H overwrite the inputs of the scans, and dP and dL overwrite P and
    M. Gradients are allocated when they are first needed.

    Args:
        call: the inputs.
        segment: which chunks.
        do: the gradients of the outputs [B, T, H, V].
        state: the state at the start of the segment; None: zeros.
        adjoint: the gradient of the state at its end; None: zeros.
        gradients: by the name of their input; whatever is missing is allocated, of the shape of the input.

    Returns:
        The adjoint of the state at the start of the segment, [N, H, K, V].
    """
    kernels, H, C, KP, VP = call.kernels, call.H, call.kernels.C, call.kernels.KP, call.kernels.VP
    slots = segment.num_chunks * H
    adjoints = kernels.empty(slots, KP * VP)
    terms = prepared(call, segment, do, adjoints)
    A, S = terms.A, terms.B
    before, last = kernels.empty_state(segment.N, H), kernels.empty_state(segment.N, H)
    kernels.launch(
        SCAN_BOTH_WAYS, 2 * segment.N * H, A, S, terms.carry, S,
        state, last, segment.offsets, H, segment.N, adjoints, adjoints, adjoint, before, None, None, None,
        HAS_FIRST=state is not None, HAS_AFTER=adjoint is not None,
    )  # fmt: skip
    del A, terms.A
    dv, dw = _allocate(gradients, v=call.v, w=call.w)
    U, Y = kernels.empty(slots, C * VP), kernels.empty(slots, C * VP)
    kernels.launch(
        VALUE_GRADIENTS, slots, terms.M, terms.P, terms.E, terms.K, S, adjoints, call.v, call.w, do, U, Y,
        terms.P, terms.M, dv, dw, segment.starts, segment.lengths, call.scale, H,
    )  # fmt: skip
    dP, dL, by_level = terms.P, terms.M, terms.by_level
    del terms
    dq, dk, db, dg = _allocate(gradients, q=call.q, k=call.k, b=call.b, g=call.g)
    for variant in (KEY_GRADIENTS, KEY_GRADIENTS_BY_LEVEL):
        kernels.launch(
            variant, slots, call.q, call.k, call.b, call.g, S, adjoints, do, U, Y, dP, dL, dq, dk, db, dg, by_level,
            segment.starts, segment.lengths, call.scale, H,
        )  # fmt: skip
    return before


def prepared(call: Call, segment: Segment, do: Tensor, adjoints: Tensor) -> ChunkTerms:
    """The terms of a segment's chunks.

    Args:
        call: the inputs.
        segment: which chunks.
        do: the gradients of the outputs [B, T, H, V].
        adjoints: receives R^T do, a tile [KP, VP] for each chunk and head.
    """
    kernels, H, C, KP, VP = call.kernels, call.H, call.kernels.C, call.kernels.KP, call.kernels.VP
    slots = segment.num_chunks * H
    P, M, L = kernels.empty(slots, C * C), kernels.empty(slots, C * C), kernels.empty(slots, C * C, torch.float32)
    E, Q, K = (kernels.empty(slots, C * KP) for _ in range(3))
    carry, by_level = kernels.empty(slots, KP, torch.float32), kernels.empty(slots, 1, torch.int32)
    A, B = (kernels.empty(slots, KP * columns) for columns in (KP, VP))
    for variant in (PREPARE_BACKWARD, PREPARE_BACKWARD_BY_LEVEL):
        kernels.launch(
            variant, slots, call.q, call.k, call.b, call.g, call.v, call.w, do, P, L, M, E, Q, K, carry, by_level,
            A, B, adjoints, None, segment.starts, segment.lengths, call.scale, H, VALUE_FIRST=False,
        )  # fmt: skip
    return ChunkTerms(P, M, E, K, carry, by_level, A, B)


def _allocate(gradients: dict[str, Tensor], **inputs: Tensor) -> tuple[Tensor, ...]:
    for name, x in inputs.items():
        if name not in gradients:
            gradients[name] = torch.empty_like(x)
    return tuple(gradients[name] for name in inputs)
