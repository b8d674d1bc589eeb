"""The chunkwise forward pass: `prepare` and `scan_output`, segment after segment."""

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

FEW_PROGRAMS = 128  # of 16 value columns: they run at once, one on a multiprocessor, and nothing runs beside them


@dataclass
class ChunkTerms:
    """What the chunks of a segment contribute before their state is known: see prepare.py."""

    P: Tensor
    M: Tensor
    E: Tensor
    Q: Tensor
    K: Tensor
    carry: Tensor
    by_level: Tensor
    A: Tensor
    B: Tensor


def run_forward(
    call: Call, first: Tensor | None, segments: tuple[Segment, ...]
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Outputs [B, T, H, V], the last state [N, H, K, V], and the state at the start of each segment."""
    plan, H = call.plan, call.H
    o = torch.empty_like(call.v)
    state, boundaries = first, []
    programs = segments[0].N * H * plan.VP // 16
    scan = "scan_output" if len(segments) == 1 and programs <= FEW_PROGRAMS else "scan_output_wide"
    pipeline = Pipeline(plan.device, enabled=len(segments) > 1)
    for segment in segments:
        boundaries.append(state)
        terms = prepared(call, segment, "prepare", None, None, o)
        A, S, R, carry = terms.A, terms.B, terms.Q, terms.carry
        del terms
        last = plan.empty_state(segment.N, H)
        with pipeline.behind(A, S, R, carry):
            plan.launch(
                scan, segment.N * H, A, S, carry, S, state, last, segment.offsets, H, segment.N,
                R, None, None, None, o, segment.starts, segment.lengths, HAS_FIRST=state is not None, HAS_AFTER=False,
            )  # fmt: skip
        del A, S, R, carry
        state = last
    pipeline.join()
    assert state is not None
    return o, state, boundaries


def prepared(
    call: Call, segment: Segment, kernel: str, do: Tensor | None, R: Tensor | None, o: Tensor | None
) -> ChunkTerms:
    """The terms of a segment's chunks. With the kernel "prepare" O goes to `o`, and R where Q was; with
    "prepare_backward" R^T do goes to `R`."""
    plan, H, C, KP, VP = call.plan, call.H, call.plan.C, call.plan.KP, call.plan.VP
    slots = segment.num_chunks * H
    P, M, L = plan.empty(slots, C * C), plan.empty(slots, C * C), plan.empty(slots, C * C, torch.float32)
    E, Q, Km = plan.empty(slots, C * KP), plan.empty(slots, C * KP), plan.empty(slots, C * KP)
    carry, by_level = plan.empty(slots, KP, torch.float32), plan.empty(slots, 1, torch.int32)
    A, B = plan.empty(slots, KP * KP), plan.empty(slots, KP * VP)
    for name in (kernel, f"{kernel}_by_level"):
        plan.launch(
            name, slots, call.q, call.k, call.b, call.g, call.v, call.w, do, P, L, M, E, Q, Km, carry, by_level,
            A, B, Q if R is None else R, o, segment.starts, segment.lengths, call.scale, H,
        )  # fmt: skip
    return ChunkTerms(P, M, E, Q, Km, carry, by_level, A, B)


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
