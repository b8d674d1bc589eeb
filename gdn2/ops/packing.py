"""Packed sequences (`cu_seqlens`) as a rectangle whose empty places are steps that change nothing."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor


def unpack(x: Tensor, offsets: tuple[int, ...]) -> Tensor:
    """[1, T, H, d] with N sequences end to end -> [N, longest, H, d], with zeros after the shorter ones."""
    parts = [x[0, start:end] for start, end in pairwise(offsets)]
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)


def pack(x: Tensor, offsets: tuple[int, ...]) -> Tensor:
    """The inverse of `unpack`: [N, longest, H, d] -> [1, T, H, d]."""
    return torch.cat([x[i, : end - start] for i, (start, end) in enumerate(pairwise(offsets))])[None]
