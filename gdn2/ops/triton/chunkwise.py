"""The chunkwise forward pass: the kernels `prepare` and `scan`, segment after segment.

A segment is small, so that the GPU would wait for a host that takes long over it. What can be done once a call is:
launches are looked up, memory is allocated, and tensors become addresses.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gdn2.ops.triton.kernel_set import Call, VariantLaunch
from gdn2.ops.triton.layout import Segment
from gdn2.ops.triton.pipeline import Pipeline
from gdn2.ops.triton.scratch import Scratch
from gdn2.ops.triton.variants import PREPARE, PREPARE_BY_LEVEL


class Launches(NamedTuple):
    """What a forward pass launches.

    Attributes:
        prepare: the kernels that a segment is prepared by, in their order.
        scans: the scan of the first segment and that of all others, which have a state before them.
    """

    prepare: tuple[VariantLaunch, VariantLaunch]
    scans: tuple[VariantLaunch, VariantLaunch]

    def take_addresses(self, num_segments: int) -> bool:
        """Whether all that so many segments need takes tensors as their addresses."""
        return all(launch.takes_addresses for launch in (*self.prepare, *self.scans[:num_segments]))


class Arguments(NamedTuple):
    """The arguments that all segments at one place in scratch memory have in common, tensors or addresses.

    Attributes:
        prepare: those of `prepare` before the chunks' starts, lengths, the scale and H.
        scan: those of the scan before the states, the chunks' offsets and H.
        after: those of the scan behind them, before the chunks' starts and lengths.
    """

    prepare: tuple[Any, ...]
    scan: tuple[Any, ...]
    after: tuple[Any, ...]


def run_forward(
    call: Call, first: Tensor | None, segments: tuple[Segment, ...], *, keep: bool = True
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Run all segments from the state `first` on.

    Args:
        call: the inputs.
        first: the initial state [N, H, K, V]; None: zeros.
        segments: which chunks, in their order.
        keep: the state at the start of each segment is wanted; else all but the last share their memory.

    Returns:
        The outputs [B, T, H, V], the last state [N, H, K, V], and the state at the start of each segment, which is
        overwritten unless `keep`.
    """
    kernels, H, n, N = call.kernels, call.H, len(segments), segments[0].N
    launches = launches_for(call, N, n, has_first=first is not None)
    addresses = launches.take_addresses(n)
    o = torch.empty_like(call.v)
    states = [kernels.empty_state(N, H) for _ in range(n if keep else min(n, 2))]
    ends = states if keep else [states[(n - 1 - i) % 2] for i in range(n)]  # a scan writes another one than it reads
    begins = [first, *ends[:-1]]
    scratch = Scratch(kernels, tuple(segment.num_chunks * H for segment in segments[:2]))
    shared = arguments_of(call, N, o, scratch, addresses=addresses)
    pipeline = Pipeline(kernels.device, enabled=n > 1)
    prepare, by_level = (launch.to(pipeline.main) for launch in launches.prepare)
    scans = [launch.to(pipeline.side) for launch in launches.scans[:n]]
    try:
        for i, segment in enumerate(segments):
            arguments, slots = shared[i if i < 2 else 2 - i % 2], segment.num_chunks * H
            changing = (begins[i], ends[i], segment.offsets, segment.starts, segment.lengths)
            before, after, offsets, *where = map(_address, changing) if addresses else changing
            pipeline.before_prepare()
            prepare(slots, *arguments.prepare, *where, call.scale, H)
            by_level(slots, *arguments.prepare, *where, call.scale, H)
            pipeline.before_scan()
            scans[i > 0](N * H, *arguments.scan, before, after, offsets, H, *arguments.after, *where)
            pipeline.after_scan()
    finally:
        pipeline.join()
    return o, ends[-1], begins


def launches_for(call: Call, N: int, num_segments: int, *, has_first: bool) -> Launches:
    """What a call of N sequences in so many segments launches; `has_first`: there is an initial state."""
    kernels = call.kernels
    scan = kernels.output_scan(N * call.H, num_segments)
    value_first = kernels.form.is_value_first(scan)
    flags = {} if kernels.form.writes else {"HAS_AFTER": False}
    prepare, by_level = (kernels.resolved(v, VALUE_FIRST=value_first) for v in (PREPARE, PREPARE_BY_LEVEL))
    first, later = (kernels.resolved(scan, HAS_FIRST=has, **flags) for has in (has_first, True))
    return Launches((prepare, by_level), (first, later))


def arguments_of(call: Call, N: int, o: Tensor, scratch: Scratch, *, addresses: bool) -> list[Arguments]:
    """The arguments at each place of the scratch memory.

    Args:
        call: the inputs.
        N: the number of sequences.
        o: the outputs [B, T, H, V].
        scratch: where the tiles are.
        addresses: tensors are given as their addresses.
    """
    tensors = (call.q, call.k, call.b, call.g, call.v, call.w, o)
    *inputs, outputs = map(_address, tensors) if addresses else tensors
    found = []
    for A, B, Q, K, P, E, M, L, carry, by_level in scratch.places(addresses=addresses):
        of_prepare = (*inputs, None, P, L, M, E, Q, K, carry, by_level, A, B, Q, outputs)  # R overwrites Q+
        if call.kernels.form.writes:
            found.append(Arguments(of_prepare, (A, B, K, Q, P, carry), (outputs,)))
        else:
            found.append(Arguments(of_prepare, (A, B, carry, B), (N, Q, None, None, None, outputs)))
    return found


def _address(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()
