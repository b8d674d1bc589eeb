"""Two streams for a forward pass: the serial part of a segment beside the parallel part of the next one."""

from __future__ import annotations

import threading
from functools import lru_cache

import torch


class Pipeline:
    """The streams of one call, in which segments take turns at two rooms of scratch memory (scratch.py).

    Memory belongs to the caller's stream. It is free again when that stream has waited for the second one (`join`). The
    events are this call's own: of another one they might belong to a graph that is being captured, or to a thread that
    uses them at the same time. That two segments wait for the same event is no harm, since to wait means to wait for
    its last record before.

    Args:
        device: the GPU; on a CPU everything runs in order.
        enabled: whether there is a second stream at all.

    Attributes:
        main: the caller's stream, for what is prepared; None on a CPU.
        side: the stream of the scans; `main` where there is no second one.
    """

    def __init__(self, device: torch.device, *, enabled: bool) -> None:
        self.main: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self.main = torch.cuda.current_stream(device)
        self.side = self.main
        self.enabled = enabled and self.main is not None
        if self.enabled:
            self.side = _side_stream(device, threading.get_ident())
            self.prepared, self.scanned = torch.cuda.Event(), (torch.cuda.Event(), torch.cuda.Event())
        self.scans, self.forked = 0, False

    def before_prepare(self) -> None:
        """What follows on `main` waits for the scan of the segment before the last, whose memory it writes."""
        if self.enabled and self.scans > 1:
            self.scanned[self.scans % 2].wait(self.main)

    def before_scan(self) -> None:
        """What follows on `side` waits for all that was launched on `main`."""
        if self.enabled:
            self.forked = True
            self.prepared.record(self.main)
            self.prepared.wait(self.side)

    def after_scan(self) -> None:
        """Mark the end of a segment's scan."""
        if self.enabled:
            self.scanned[self.scans % 2].record(self.side)
        self.scans += 1

    def join(self) -> None:
        """What follows on `main` waits for all that was launched on `side`."""
        if self.forked:
            self.prepared.record(self.side)
            self.prepared.wait(self.main)


@lru_cache(maxsize=64)
def _side_stream(device: torch.device, thread: int) -> torch.cuda.Stream:
    """A thread's second stream: what another thread captures into a graph must not come between.

    Its short kernels go before the long ones of the next segment.
    """
    del thread  # it is part of the cache's key
    return torch.cuda.Stream(device, priority=-1)
