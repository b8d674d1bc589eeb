"""Watching the norm of the state: GDN-2's transition is not a contraction, so a state can grow until float32 ends.

What it finds is an error with layer, head and position, never a score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from gdn2 import RecurrentState
from harness.errors import UserError

Forward = Callable[[int], RecurrentState]


class StateError(UserError):
    """A state or a prediction that is no number any more."""


def norms_of(largest: Mapping[tuple[int, int], float]) -> dict[str, Any] | None:
    """The largest norm of each layer by position, for JSON.

    Args:
        largest: norms by layer and by the power of two that a position, in tokens read, does not exceed.

    Returns:
        `layers`, `positions` (these powers), and `norms`: a list a layer, a norm or None a position. None for nothing.
    """
    if not largest:
        return None
    layers, positions = sorted({layer for layer, _ in largest}), sorted({position for _, position in largest})
    norms = [[largest.get((layer, position)) for position in positions] for layer in layers]
    return {"layers": layers, "positions": positions, "norms": norms}


def joined_norms(parts: Iterable[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """The larger of several processes' norms, each as `norms_of` makes them."""
    largest: dict[tuple[int, int], float] = {}
    for part in parts:
        for layer, norms in zip(part["layers"], part["norms"], strict=True) if part else ():
            for position, norm in zip(part["positions"], norms, strict=True) if part else ():
                if norm is not None:
                    largest[layer, position] = max(norm, largest.get((layer, position), 0.0))
    return norms_of(largest)


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
        return {**asdict(self), "norm": _short(self.norm)}


def _short(norm: float) -> float:
    return float(f"{norm:.4g}")


class StateWatch:
    """Looks at each state that a segment ends with; cheap, and two transfers from the device a segment.

    Attributes:
        largest: over all states seen so far.
        norms: the largest of each layer, by the power of two that the number of tokens read does not exceed.
    """

    def __init__(self) -> None:
        self.largest: LargestState | None = None
        self.norms: dict[tuple[int, int], float] = {}

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
        rows = values.amax(2).cpu()  # [L, B]; what is not finite stays so
        if not bool(torch.isfinite(rows).all()):
            raise self._located(replay, length)
        value = float(rows.max())
        if self.largest is None or value > self.largest.norm:
            layer, row, head = (int(i) for i in torch.unravel_index(values.argmax(), values.shape))
            self.largest = LargestState(value, layer_numbers[layer], head, int(state.lengths[row]))
        self._note(layer_numbers, rows, state.lengths.tolist())

    def _note(self, layers: Sequence[int], norms: Tensor, read: Sequence[int]) -> None:
        """Keep the largest norm of each layer [L, B] by the tokens that each row has read."""
        ends = [1 << max(tokens - 1, 0).bit_length() for tokens in read]
        for end in set(ends):
            columns = [row for row, own in enumerate(ends) if own == end]
            for layer, norm in zip(layers, norms[:, columns].amax(1).tolist(), strict=True):
                self.norms[layer, end] = max(_short(norm), self.norms.get((layer, end), 0.0))

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
