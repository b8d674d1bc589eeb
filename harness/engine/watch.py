"""Watching the norm of the state: GDN-2's transition is not a contraction, so a state can grow until float32 ends.

What it finds is an error with layer, head and position, never a score.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from gdn2 import RecurrentState
from harness.errors import UserError

Forward = Callable[[int], RecurrentState]


class StateError(UserError):
    """A state or a prediction that is no number any more."""


@dataclass(frozen=True)
class LargestState:
    """The largest Frobenius norm of a head's state that a run has seen, at the end of a segment."""

    norm: float
    layer: int
    head: int
    position: int
    """Tokens that its text had read."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "norm": float(f"{self.norm:.4g}")}


class StateWatch:
    """Looks at each state that a segment ends with; cheap, and one transfer from the device a segment.

    Attributes:
        largest: over all states seen so far.
    """

    def __init__(self) -> None:
        self.largest: LargestState | None = None

    def check(self, state: RecurrentState, replay: Forward, length: int) -> None:
        """Note the norms; a state that is not finite raises.

        Args:
            state: after the segment.
            replay: the state after the first n tokens of the same segment, to find where it went wrong.
            length: tokens of the segment.

        Raises:
            StateError: names layer, head and position.
        """
        norms = state_norms(state)
        if norms is None:
            return
        layer_numbers, values = norms
        largest, at = values.flatten().max(0)
        value = float(largest)
        if not bool(torch.isfinite(values).all()):
            raise self._located(replay, length)
        if self.largest is None or value > self.largest.norm:
            layer, row, head = (int(i) for i in torch.unravel_index(at, values.shape))
            self.largest = LargestState(value, layer_numbers[layer], head, int(state.lengths[row]))

    def _located(self, replay: Forward, length: int) -> StateError:
        """The first position where it is not finite, by bisection: once lost, a state stays lost."""
        good, bad = 0, length
        while bad - good > 1:
            middle = (good + bad) // 2
            norms = state_norms(replay(middle))
            if norms is not None and bool(torch.isfinite(norms[1]).all()):
                good = middle
            else:
                bad = middle
        state = replay(bad)
        norms = state_norms(state)
        assert norms is not None
        layer_numbers, values = norms
        lost = (~torch.isfinite(values)).nonzero()
        layer, row, head = (int(i) for i in lost[0]) if len(lost) else (0, 0, 0)
        before = "none" if self.largest is None or not math.isfinite(self.largest.norm) else f"{self.largest.norm:.3g}"
        return StateError(
            f"the state of layer {layer_numbers[layer]}, head {head} is not finite after {int(state.lengths[row])} "
            f"tokens of a text (largest norm before: {before}); the weights let the state grow beyond float32. "
            "Nothing was scored from it; run shorter lengths, or another checkpoint"
        )


def state_norms(state: RecurrentState) -> tuple[list[int], Tensor] | None:
    """(layer numbers [L], Frobenius norms [L, B, H]) of the layers that have a matrix state, or None without any.

    Layers with fewer heads than others are filled up with 0.
    """
    found = [(number, layer.matrix) for number, layer in enumerate(state.layers) if layer.matrix is not None]
    if not found:
        return None
    norms = [torch.linalg.vector_norm(matrix, dim=(-2, -1)) for _, matrix in found]
    width = max(norm.shape[1] for norm in norms)
    filled = [torch.nn.functional.pad(norm, (0, width - norm.shape[1])) for norm in norms]
    return [number for number, _ in found], torch.stack(filled)
