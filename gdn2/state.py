"""`RecurrentState`: everything a model remembers of the tokens it has read, as a value of constant size.

Letters: B batch, H heads, K key dim, V value dim (of all value heads of a group together), W taps of the convolution,
C channels of q, k and v together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class LayerState:
    """What one layer carries: the matrix state [B, H, K, V] in float32 and the last inputs of its convolution
    [B, W - 1, C]."""

    matrix: Tensor
    conv: Tensor

    def select(self, rows: Tensor) -> LayerState:
        return LayerState(self.matrix.index_select(0, rows), self.conv.index_select(0, rows))


class RecurrentState:
    """The state of a whole model after some tokens. Forwards return a new one and never change the one they got, so
    one prefix can be continued many times.

    Attributes:
        layers: one `LayerState` a layer.
        lengths: tokens that each row has read, int64 [B]; padding does not count.
    """

    is_compileable = False  # asked by `transformers.generate`

    def __init__(self, layers: Sequence[LayerState], lengths: Tensor) -> None:
        self.layers = tuple(layers)
        self.lengths = lengths

    @property
    def batch_size(self) -> int:
        return self.lengths.shape[0]

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors: the same after 10 tokens and after a million."""
        tensors = [tensor for layer in self.layers for tensor in (layer.matrix, layer.conv)]
        return sum(tensor.numel() * tensor.element_size() for tensor in (*tensors, self.lengths))

    def select(self, rows: Tensor | Sequence[int]) -> RecurrentState:
        """The given rows, in the given order; a row may be taken more than once."""
        rows = torch.as_tensor(rows, dtype=torch.long, device=self.lengths.device)
        return RecurrentState([layer.select(rows) for layer in self.layers], self.lengths.index_select(0, rows))

    def fork(self, copies: int) -> RecurrentState:
        """Each row `copies` times, copies of a row next to each other: one context, many continuations."""
        if copies < 1:
            raise ValueError(f"copies must be at least 1, got {copies}")
        return self.select(torch.arange(self.batch_size, device=self.lengths.device).repeat_interleave(copies))

    @staticmethod
    def concat(states: Sequence[RecurrentState]) -> RecurrentState:
        """One state with the rows of all; they must come from the same model."""
        if not states:
            raise ValueError("concat needs at least one state")
        layers = [
            LayerState(torch.cat([part.matrix for part in parts]), torch.cat([part.conv for part in parts]))
            for parts in zip(*(state.layers for state in states), strict=True)
        ]
        return RecurrentState(layers, torch.cat([state.lengths for state in states]))

    def to(self, device: torch.device | str) -> RecurrentState:
        layers = [replace(layer, matrix=layer.matrix.to(device), conv=layer.conv.to(device)) for layer in self.layers]
        return RecurrentState(layers, self.lengths.to(device))

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002 (transformers' signature)
        """Tokens of the longest row, the name under which `transformers.generate` asks for it."""
        return int(self.lengths.max()) if self.batch_size else 0
