"""The chunkwise forward pass: the kernels `prepare` and `scan`, segment after segment."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from gdn2.ops.triton.kernel_set import Call
from gdn2.ops.triton.layout import Segment
from gdn2.ops.triton.variants import PREPARE, PREPARE_BACKWARD, PREPARE_BACKWARD_BY_LEVEL, PREPARE_BY_LEVEL


@dataclass
class ChunkTerms:
    """What the chunks of a segment contribute before their state is known (prepare.py).

    Attributes:
        P: decayed inner products of queries and keys.
        M: (I + L)^-1, with the decayed inner products L of erase vectors and keys.
        E: erase vectors with the decay since the start of the chunk, E+.
        Q: queries with that decay, Q+; or what has overwritten them.
        K: keys with the decay until the end of the chunk, K-.
        carry: the decay of a whole chunk, one number a key channel.
        by_level: 1 for chunks whose decay is too strong for a single reference, else 0.
        A: the matrix of the affine map that a chunk is for its state; or W (forms.py).
        B: what that map adds; or U0.
    """

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
    """Run all segments from the state `first` on; None is a state of zeros.

    Returns:
        The outputs [B, T, H, V], the last state [N, H, K, V], and the state at the start of each segment.
    """
    kernels, H = call.kernels, call.H
    o = torch.empty_like(call.v)
    state, boundaries = first, []
    scan = kernels.output_scan(segments[0].N * H, len(segments))
    pipeline = Pipeline(kernels.device, enabled=len(segments) > 1)
    for segment in segments:
        boundaries.append(state)
        terms = prepared(call, segment, o=o, value_first=kernels.form.is_value_first(scan))
        A, S, R, carry, Km, P = terms.A, terms.B, terms.Q, terms.carry, terms.K, terms.P
        del terms
        last = kernels.empty_state(segment.N, H)
        with pipeline.beside(A, S, R, carry, *((Km, P) if kernels.form.writes else ())):
            if kernels.form.writes:
                kernels.launch(
                    scan, segment.N * H, A, S, Km, R, P, carry, state, last, segment.offsets, H, o, segment.starts,
                    segment.lengths, HAS_FIRST=state is not None,
                )  # fmt: skip
            else:
                kernels.launch(
                    scan, segment.N * H, A, S, carry, S, state, last, segment.offsets, H, segment.N,
                    R, None, None, None, o, segment.starts, segment.lengths,
                    HAS_FIRST=state is not None, HAS_AFTER=False,
                )  # fmt: skip
        del A, S, R, carry, Km, P
        state = last
    pipeline.join()
    assert state is not None
    return o, state, boundaries


def prepared(
    call: Call, segment: Segment, *, o: Tensor | None = None, do: Tensor | None = None, R: Tensor | None = None,
    value_first: bool = False,
) -> ChunkTerms:  # fmt: skip
    """The terms of a segment's chunks: for the forward pass if `o` is given, for the backward pass if `do` and `R` are.

    Args:
        call: the inputs.
        segment: which chunks.
        o: receives O [B, T, H, V], what the outputs owe to their own chunks; R then overwrites the decayed queries.
        do: the gradients of the outputs [B, T, H, V].
        R: receives R^T do, a tile [KP, VP] for each chunk and head.
        value_first: U0 is to be transposed.
    """
    kernels, H, C, KP, VP = call.kernels, call.H, call.kernels.C, call.kernels.KP, call.kernels.VP
    slots = segment.num_chunks * H
    P, M, L = kernels.empty(slots, C * C), kernels.empty(slots, C * C), kernels.empty(slots, C * C, torch.float32)
    Q, Km = kernels.empty(slots, C * KP), kernels.empty(slots, C * KP)
    carry, by_level = kernels.empty(slots, KP, torch.float32), kernels.empty(slots, 1, torch.int32)
    backward = do is not None
    writes = kernels.form.writes and not backward
    A, B = (kernels.empty(slots, (C if writes else KP) * columns) for columns in (KP, VP))
    E = A if writes else kernels.empty(slots, C * KP)  # W overwrites E+
    for variant in (PREPARE_BACKWARD, PREPARE_BACKWARD_BY_LEVEL) if backward else (PREPARE, PREPARE_BY_LEVEL):
        kernels.launch(
            variant, slots, call.q, call.k, call.b, call.g, call.v, call.w, do, P, L, M, E, Q, Km, carry, by_level,
            A, B, Q if R is None else R, o, segment.starts, segment.lengths, call.scale, H, VALUE_FIRST=value_first,
        )  # fmt: skip
    return ChunkTerms(P, M, E, Q, Km, carry, by_level, A, B)


class Pipeline:
    """Runs the serial part of a segment on a second stream, beside the parallel part of the next segment.

    Memory belongs to the caller's stream: tensors given to `beside` are kept until the caller's stream has waited for
    the second one, two segments later.

    Args:
        device: the GPU; on a CPU everything runs in order.
        enabled: whether there is a second stream at all.
    """

    def __init__(self, device: torch.device, *, enabled: bool) -> None:
        self.pending: deque[tuple[torch.cuda.Event, tuple[Tensor, ...]]] = deque()
        self.side = _side_stream(device) if enabled and device.type == "cuda" else None

    @contextmanager
    def beside(self, *tensors: Tensor) -> Iterator[None]:
        """Launches inside run on the second stream, after all that was launched before; they may read `tensors`."""
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
        """Make the caller's stream wait for all that runs on the second one."""
        while self.pending:
            self._wait()

    def _wait(self) -> None:
        assert self.side is not None
        event, _ = self.pending.popleft()
        torch.cuda.current_stream(self.side.device).wait_event(event)


@lru_cache(maxsize=16)
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device, priority=-1)  # its short kernels go before the long ones of the next segment
