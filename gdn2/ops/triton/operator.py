"""The operator on Triton kernels: which run, in which order, over which scratch memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from gdn2.ops.triton.backward import key_gradients_kernel, value_gradients_kernel
from gdn2.ops.triton.decay import LOG2_E
from gdn2.ops.triton.forward import invert_kernel, output_kernel, scan_kernel, scores_kernel, transition_kernel
from gdn2.ops.triton.layout import MAX_KEY_DIM, Segment, padded_key_dim, padded_value_dim, segments_of
from gdn2.ops.triton.recurrent import recurrent_kernel
from gdn2.ops.triton.tiles import CHUNK_SIZE, MAX_RANGE, PRECISION, Tile
from gdn2.ops.triton.tuning import tile_for

SHORT_INPUT = 16  # tokens up to which the recurrent kernel is used where no gradient is asked for


def triton_gated_delta_rule_2(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    b: Tensor,
    w: Tensor,
    scale: float,
    initial_state: Tensor | None,
    offsets: tuple[int, ...] | None = None,
) -> tuple[Tensor, Tensor]:
    """As `naive_gated_delta_rule_2`, by kernels; packed sequences are given by their `offsets`.

    Raises:
        ValueError: dtypes other than float32, bfloat16 and float16, or d_k above 256.
    """
    shape = Shape.of(q, v, offsets)
    q, k, v, g, b, w = (x.contiguous() for x in (q, k, v, g, b, w))
    if initial_state is not None:
        initial_state = initial_state.contiguous()
    inputs = (q, k, v, g, b, w, initial_state)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs):
        return _Chunked.apply(*inputs, scale, shape)
    if shape.longest <= SHORT_INPUT:
        return run_recurrent(*inputs, scale, shape)
    o, last, _ = run_chunked(*inputs, scale, shape, keep_boundaries=False)
    return o, last


@dataclass(frozen=True)
class Shape:
    """Sizes of a call: letters as in gdn2/README.md, KP and VP padded for tiles, N sequences."""

    B: int
    T: int
    H: int
    K: int
    V: int
    N: int
    longest: int
    offsets: tuple[int, ...] | None
    precision: str

    @staticmethod
    def of(q: Tensor, v: Tensor, offsets: tuple[int, ...] | None) -> Shape:
        B, T, H, K = q.shape
        if v.dtype not in PRECISION:
            raise ValueError(f"the triton backend computes in float32, bfloat16 or float16, got v in {v.dtype}")
        if not 1 <= K <= MAX_KEY_DIM:
            raise ValueError(f"the triton backend takes d_k from 1 to {MAX_KEY_DIM}, got q of {list(q.shape)}")
        longest = T if offsets is None else max(end - start for start, end in pairwise(offsets))
        N = B if offsets is None else len(offsets) - 1
        return Shape(B, T, H, K, v.shape[-1], N, longest, offsets, PRECISION[v.dtype])

    @property
    def KP(self) -> int:
        return padded_key_dim(self.K)

    @property
    def VP(self) -> int:
        return padded_value_dim(self.V)

    @property
    def C(self) -> int:
        return CHUNK_SIZE[self.precision]

    def segments(self, device: torch.device) -> tuple[Segment, ...]:
        return segments_of(self.offsets, self.B, self.T, self.H, self.C, device)

    def constants(self, *names: str) -> dict[str, Any]:
        """Compile-time arguments of a kernel."""
        values = {
            "K": self.K, "V": self.V, "KP": self.KP, "VP": self.VP, "C": self.C, "LOG_C": self.C.bit_length() - 1,
            "KB": min(self.KP, 128), "MAX_RANGE": MAX_RANGE[self.precision] * LOG2_E.value, "PRECISION": self.precision,
        }  # fmt: skip
        return {name: values[name] for name in names}

    def empty_state(self, device: torch.device) -> Tensor:
        return torch.empty(self.N, self.H, self.K, self.V, dtype=torch.float32, device=device)

    def tile(self, kernel: str, programs: int) -> Tile:
        return tile_for(kernel, self.KP, self.VP, self.precision, programs)


def run_recurrent(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor, w: Tensor, first: Tensor | None, scale: float, shape: Shape
) -> tuple[Tensor, Tensor]:
    """Outputs [B, T, H, V] and the last state [N, H, K, V] by `recurrent_kernel`."""
    o = torch.empty_like(v)
    last = shape.empty_state(q.device)
    offsets = None
    if shape.offsets is not None:
        offsets = torch.tensor(shape.offsets, dtype=torch.int64).to(q.device, non_blocking=True)
    tile = shape.tile("recurrent", shape.N * shape.H)
    grid = (-(-shape.V // tile["BV"]), shape.H, shape.N)
    recurrent_kernel[grid](
        q, k, v, g, b, w, o, first, last, offsets, scale, shape.T, shape.H,
        HAS_FIRST=first is not None, PACKED=offsets is not None, **shape.constants("K", "V", "KP"), **tile,
    )  # fmt: skip
    return o, last


class Scratch:
    """Tiles between kernels, one set a segment; `slots` = chunks * heads."""

    def __init__(self, shape: Shape, slots: int, device: torch.device) -> None:
        self.shape, self.slots, self.device = shape, slots, device
        self.dtype = torch.bfloat16 if shape.precision == "bf16" else torch.float32

    def empty(self, rows: int, columns: int, dtype: torch.dtype | None = None) -> Tensor:
        return torch.empty(self.slots, rows, columns, dtype=dtype or self.dtype, device=self.device)


@dataclass
class ChunkTerms:
    """What chunks of a segment contribute before their state is known: see forward.py."""

    P: Tensor
    M: Tensor
    E: Tensor
    Q: Tensor
    K: Tensor
    carry: Tensor
    by_level: Tensor


def run_chunked(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor, w: Tensor, first: Tensor | None, scale: float,
    shape: Shape, *, keep_boundaries: bool,
) -> tuple[Tensor, Tensor, list[Tensor | None]]:  # fmt: skip
    """Outputs, the last state, and the state at the start of each segment if they are to be kept."""
    o = torch.empty_like(v)
    state, boundaries = first, []
    segments = shape.segments(q.device)
    pipeline = Pipeline(q.device, enabled=len(segments) > 1)
    for segment in segments:
        boundaries.append(state if keep_boundaries else None)
        scratch = Scratch(shape, segment.num_chunks * shape.H, q.device)
        terms = chunk_terms(q, k, g, b, scale, shape, segment, scratch)
        A, B = scratch.empty(shape.KP, shape.KP), scratch.empty(shape.KP, shape.VP)
        R, O = scratch.empty(shape.C, shape.KP), scratch.empty(shape.C, shape.VP)
        run_transition(terms, v, w, A, B, R, O, None, shape, segment)
        S = scratch.empty(shape.KP, shape.VP)
        last = shape.empty_state(q.device)
        with pipeline.behind(A, B, R, O, S, terms.carry):
            run_scan(A, B, terms.carry, S, state, last, shape, segment)
            run_output(R, S, O, o, shape, segment)
        state = last
    pipeline.join()
    if state is None:
        state = shape.empty_state(q.device).zero_()
    return o, state, boundaries


class Pipeline:
    """Runs the serial part of a segment on a second stream, beside the parallel part of the next segment.

    Memory belongs to the caller's stream: tensors given to `behind` are kept until the caller's stream has waited for
    the second one, two segments later.
    """

    def __init__(self, device: torch.device, *, enabled: bool) -> None:
        self.pending: deque[tuple[torch.cuda.Event, tuple[Tensor, ...]]] = deque()
        self.side = _side_stream(device) if enabled and device.type == "cuda" else None

    @contextmanager
    def behind(self, *tensors: Tensor) -> Iterator[None]:
        if self.side is None:
            yield
            return
        self.side.wait_stream(torch.cuda.current_stream(self.side.device))
        with torch.cuda.stream(self.side):
            yield
            self.pending.append((self.side.record_event(), tensors))
        while len(self.pending) > 1:
            self._wait()

    def join(self) -> None:
        while self.pending:
            self._wait()

    def _wait(self) -> None:
        assert self.side is not None
        event, _ = self.pending.popleft()
        torch.cuda.current_stream(self.side.device).wait_event(event)


@lru_cache(maxsize=16)
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def chunk_terms(
    q: Tensor, k: Tensor, g: Tensor, b: Tensor, scale: float, shape: Shape, segment: Segment, scratch: Scratch
) -> ChunkTerms:
    """Kernels 1 and 2."""
    C, KP = shape.C, shape.KP
    P, L, M = scratch.empty(C, C), scratch.empty(C, C, torch.float32), scratch.empty(C, C)
    E, Q, Km = scratch.empty(C, KP), scratch.empty(C, KP), scratch.empty(C, KP)
    carry = torch.empty(scratch.slots, KP, dtype=torch.float32, device=q.device)
    by_level = torch.empty(scratch.slots, dtype=torch.int32, device=q.device)
    for kernel, levels in (("scores", False), ("scores_by_level", True)):
        scores_kernel[(segment.num_chunks, shape.H)](
            q, k, b, g, P, L, E, Q, Km, carry, by_level, segment.starts, segment.lengths, scale, shape.H,
            BY_LEVEL=levels, **shape.constants("K", "KP", "C", "LOG_C", "MAX_RANGE", "PRECISION"),
            **shape.tile(kernel, scratch.slots),
        )  # fmt: skip
    precision = "tf32" if shape.precision == "bf16" else "tf32x3"  # M is rounded to bfloat16 behind it
    invert_kernel[(scratch.slots,)](
        L, M, PRECISION=precision, **shape.constants("C", "LOG_C"), **shape.tile("invert", scratch.slots)
    )
    return ChunkTerms(P, M, E, Q, Km, carry, by_level)


def run_transition(
    terms: ChunkTerms, v: Tensor, w: Tensor, A: Tensor, B: Tensor, R: Tensor, O: Tensor | None, do: Tensor | None,
    shape: Shape, segment: Segment,
) -> None:  # fmt: skip
    """Kernel 3; with `do` the variant of the backward pass."""
    tile = shape.tile("transition", segment.num_chunks * shape.H)
    grid = (segment.num_chunks, shape.H, (shape.KP + shape.VP) // tile["BN"])
    transition_kernel[grid](
        terms.M, terms.P, terms.E, terms.Q, terms.K, v, w, A, B, R, O, do, segment.starts, segment.lengths, shape.H,
        FOR_BACKWARD=do is not None, **shape.constants("V", "KP", "VP", "C", "PRECISION"), **tile,
    )  # fmt: skip


@dataclass
class Adjoint:
    """The second half of a scan: from `after`, the gradient of the state behind the segment, through R to H of each
    chunk and `before` it all."""

    R: Tensor
    H: Tensor
    after: Tensor | None
    before: Tensor


def run_scan(
    A: Tensor, B: Tensor, carry: Tensor, S: Tensor, first: Tensor | None, last: Tensor, shape: Shape,
    segment: Segment, adjoint: Adjoint | None = None,
) -> None:  # fmt: skip
    """Kernel 4: fills S and the state `last` behind the segment, and the adjoints if asked for."""
    R = Hs = after = before = None
    if adjoint is not None:
        R, Hs, after, before = adjoint.R, adjoint.H, adjoint.after, adjoint.before
    directions = 1 if adjoint is None else 2
    tile = dict(shape.tile("scan", directions * shape.N * shape.H))
    stages = tile.pop("num_stages")
    scan_kernel[(shape.VP // tile["BV"], shape.H, directions * shape.N)](
        A, B, carry, S, first, last, segment.offsets, shape.H, shape.N, R, Hs, after, before,
        BOTH_WAYS=adjoint is not None, HAS_FIRST=first is not None, HAS_AFTER=after is not None, STAGES=stages,
        **shape.constants("K", "V", "KP", "VP", "KB", "PRECISION"), **tile,
    )  # fmt: skip


def run_output(R: Tensor, S: Tensor, O: Tensor, o: Tensor, shape: Shape, segment: Segment) -> None:
    """Kernel 5."""
    tile = shape.tile("output", segment.num_chunks * shape.H)
    grid = (segment.num_chunks, shape.H, shape.VP // tile["BV"])
    output_kernel[grid](
        R, S, O, o, segment.starts, segment.lengths, shape.H,
        **shape.constants("V", "KP", "VP", "C", "PRECISION"), **tile,
    )  # fmt: skip


class _Chunked(torch.autograd.Function):
    """The chunkwise operator with its gradients: segments forward, then from the last to the first."""

    @staticmethod
    def forward(ctx: Any, q, k, v, g, b, w, initial_state, scale, shape):  # type: ignore[no-untyped-def]
        o, last, boundaries = run_chunked(q, k, v, g, b, w, initial_state, scale, shape, keep_boundaries=True)
        ctx.save_for_backward(q, k, v, g, b, w, *boundaries)
        ctx.scale, ctx.shape, ctx.has_initial_state = scale, shape, initial_state is not None
        return o, last

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, do, d_last):  # type: ignore[no-untyped-def]
        q, k, v, g, b, w, *boundaries = ctx.saved_tensors
        gradients = tuple(torch.empty_like(x) for x in (q, k, v, g, b, w))
        adjoint = None if d_last is None else d_last.float().contiguous()
        do = do.contiguous()
        for segment, state in zip(reversed(ctx.shape.segments(q.device)), reversed(boundaries), strict=True):
            adjoint = segment_gradients(
                (q, k, v, g, b, w), do, state, adjoint, gradients, ctx.scale, ctx.shape, segment
            )
        return *gradients, adjoint if ctx.has_initial_state else None, None, None


def segment_gradients(
    inputs: tuple[Tensor, ...], do: Tensor, state: Tensor | None, adjoint: Tensor | None,
    gradients: tuple[Tensor, ...], scale: float, shape: Shape, segment: Segment,
) -> Tensor:  # fmt: skip
    """Fill the gradients of one segment's tokens; returns the adjoint of the state before it."""
    q, k, v, g, b, w = inputs
    dq, dk, dv, dg, db, dw = gradients
    C, KP, VP, slots = shape.C, shape.KP, shape.VP, segment.num_chunks * shape.H
    scratch = Scratch(shape, slots, q.device)
    terms = chunk_terms(q, k, g, b, scale, shape, segment, scratch)
    A, B, R = scratch.empty(KP, KP), scratch.empty(KP, VP), scratch.empty(KP, VP)
    run_transition(terms, v, w, A, B, R, None, do, shape, segment)
    S, Hs = scratch.empty(KP, VP), scratch.empty(KP, VP)
    before = shape.empty_state(q.device)
    run_scan(A, B, terms.carry, S, state, torch.empty_like(before), shape, segment, Adjoint(R, Hs, adjoint, before))
    del A, B, R
    U, Y = scratch.empty(C, VP), scratch.empty(C, VP)
    dP, dL = scratch.empty(C, C), scratch.empty(C, C)
    value_gradients_kernel[(segment.num_chunks, shape.H)](
        terms.M, terms.P, terms.E, terms.K, S, Hs, v, w, do, U, Y, dP, dL, dv, dw, segment.starts, segment.lengths,
        scale, shape.H, **shape.constants("V", "KP", "VP", "C", "PRECISION"), **shape.tile("value_gradients", slots),
    )  # fmt: skip
    for kernel, levels in (("key_gradients", False), ("key_gradients_by_level", True)):
        tile = shape.tile(kernel, slots)
        key_gradients_kernel[(segment.num_chunks, shape.H, KP // tile["BK"])](
            q, k, b, g, S, Hs, do, U, Y, dP, dL, dq, dk, db, dg, terms.by_level, segment.starts, segment.lengths,
            scale, shape.H, BY_LEVEL=levels, **shape.constants("K", "V", "KP", "VP", "C", "LOG_C", "PRECISION"),
            **tile,
        )  # fmt: skip
    return before
