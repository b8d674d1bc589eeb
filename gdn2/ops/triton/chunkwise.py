"""The chunkwise forward pass: its five kernels in their order, segment after segment."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from gdn2.ops.triton.layout import Segment
from gdn2.ops.triton.plan import Call


@dataclass
class ChunkTerms:
    """What the chunks of a segment contribute before their state is known (forward.py); Q turns into R."""

    P: Tensor
    M: Tensor
    E: Tensor
    Q: Tensor
    K: Tensor
    carry: Tensor
    by_level: Tensor


def run_forward(
    call: Call, first: Tensor | None, segments: tuple[Segment, ...]
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Outputs [B, T, H, V], the last state [N, H, K, V], and the state at the start of each segment."""
    plan, H, KP, VP = call.plan, call.H, call.plan.KP, call.plan.VP
    o = torch.empty_like(call.v)
    state, boundaries = first, []
    pipeline = Pipeline(plan.device, enabled=len(segments) > 1)
    for segment in segments:
        boundaries.append(state)
        slots = segment.num_chunks * H
        terms = chunk_terms(call, segment)
        A, S = plan.empty(slots, KP * KP), plan.empty(slots, KP * VP)
        plan.launch(
            "transition", slots, terms.M, terms.P, terms.E, terms.Q, terms.K, call.v, call.w, A, S,
            terms.Q, o, None, segment.starts, segment.lengths, H,
        )  # fmt: skip
        last = plan.empty_state(segment.N, H)
        with pipeline.behind(A, S, terms.Q, terms.carry):
            plan.launch(
                "scan", segment.N * H, A, S, terms.carry, S, state, last,
                segment.offsets, H, segment.N, None, None, None, None, HAS_FIRST=state is not None, HAS_AFTER=False,
            )  # fmt: skip
            plan.launch(
                "output", slots, terms.Q, S, o, segment.starts,
                segment.lengths, H,
            )  # fmt: skip
        state = last
    pipeline.join()
    assert state is not None
    return o, state, boundaries


def chunk_terms(call: Call, segment: Segment) -> ChunkTerms:
    """Kernels 1 and 2."""
    plan, H, C, KP = call.plan, call.H, call.plan.C, call.plan.KP
    slots = segment.num_chunks * H
    L = plan.empty(slots, C * C, torch.float32)
    P, M = plan.empty(slots, C * C), plan.empty(slots, C * C)
    E, Q, Km = plan.empty(slots, C * KP), plan.empty(slots, C * KP), plan.empty(slots, C * KP)
    carry = plan.empty(slots, KP, torch.float32)
    by_level = plan.empty(slots, 1, torch.int32)
    for kernel in ("scores", "scores_by_level"):
        plan.launch(
            kernel, slots, call.q, call.k, call.b, call.g, P, L, E, Q, Km, carry, by_level, segment.starts,
            segment.lengths, call.scale, H,
        )  # fmt: skip
    plan.launch("invert", slots, L, M)
    return ChunkTerms(P, M, E, Q, Km, carry, by_level)


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
    return torch.cuda.Stream(device, priority=-1)  # its short kernels go before the long ones of the next segment
