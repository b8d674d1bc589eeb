"""Where things are in memory: chunks of tokens, segments of chunks, and the padded sizes of scratch tiles.

A chunk is C tokens of one sequence that a program handles together. A segment is a range of chunks of every sequence.
It is the unit of scratch memory, so that a text of a million tokens needs no more of it than one of thirty thousand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

MAX_KEY_DIM = 256  # the state of a program is [d_k, BV] in registers
SEGMENT_TOKEN_HEADS = 2**17  # 8K tokens of 16 heads
SMALL_HEAD = 64  # d_k and d_v up to which a chunk takes less time than its launches, and little memory


@dataclass(frozen=True)
class Segment:
    """The chunks of one segment, in the order of their sequences.

    Attributes:
        starts: int64 [num_chunks], the first token of each chunk, counted over the flattened batch and time axes.
        lengths: int32 [num_chunks], the tokens of each chunk: C except at the end of a sequence.
        offsets: int32 [N + 1]; the chunks offsets[n] ... offsets[n + 1] - 1 belong to sequence n.
        num_chunks: the number of chunks of all sequences.
        N: the number of sequences.
    """

    starts: Tensor
    lengths: Tensor
    offsets: Tensor
    num_chunks: int
    N: int


@lru_cache(maxsize=128)
def segments_of(
    offsets: tuple[int, ...] | None, B: int, T: int, H: int, chunk_size: int, device: torch.device,
    *, times: float = 1,
) -> tuple[Segment, ...]:  # fmt: skip
    """The segments of B sequences of T tokens, or of packed sequences.

    Args:
        offsets: of packed sequences; None: there are B sequences of T tokens.
        B: rows of the batch.
        T: tokens of a row.
        H: heads, which share the scratch memory of a segment.
        chunk_size: tokens of a chunk.
        device: where the segments' tensors are made.
        times: so many times the usual number of tokens make a segment, in whole chunks and at least one.
    """
    N = B if offsets is None else len(offsets) - 1
    chunks = max(1, int(times * SEGMENT_TOKEN_HEADS) // (N * H * chunk_size))  # of each sequence in a segment
    step = chunks * chunk_size
    firsts = range(0, longest_sequence(T, offsets), step)
    if offsets is None:
        return tuple(_rectangle(B, T, first, first + step, chunk_size, device) for first in firsts)
    return tuple(_packed(offsets, first, first + step, chunk_size, device) for first in firsts)


def usual_times(d: int, sequences: int, tokens: int, *, learning: bool) -> float:
    """How many times `SEGMENT_TOKEN_HEADS` a segment has.

    The result of a call does not depend on it, to the bit; its time does, and its scratch memory. Gradients depend on
    it within rounding, except in the form of maps, since they begin from the states at the start of each segment.

    Args:
        d: the larger of the padded d_k and d_v.
        sequences: of the call, times heads.
        tokens: of the longest sequence.
        learning: gradients are asked for.
    """
    del sequences, tokens  # no length was measured to need another size
    return 2 if d <= SMALL_HEAD and not learning else 1


def _rectangle(B: int, T: int, first: int, last: int, C: int, device: torch.device) -> Segment:
    within = torch.arange(first, min(last, T), C, device=device)
    starts = torch.arange(B, device=device)[:, None] * T + within
    lengths = (T - within).clamp(max=C).to(torch.int32).expand(B, -1)
    row = within.numel()
    chunk_offsets = torch.arange(0, (B + 1) * row, row, dtype=torch.int32, device=device)
    return Segment(starts.flatten(), lengths.flatten().contiguous(), chunk_offsets, B * row, B)


def _packed(offsets: tuple[int, ...], first: int, last: int, C: int, device: torch.device) -> Segment:
    starts, lengths, chunk_offsets = [], [], [0]
    for start, end in pairwise(offsets):
        for chunk in range(start + first, min(start + last, end), C):
            starts.append(chunk)
            lengths.append(min(C, end - chunk))
        chunk_offsets.append(len(starts))

    def tensor(values: list[int], dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype).to(device, non_blocking=True)

    return Segment(
        tensor(starts, torch.int64),
        tensor(lengths, torch.int32),
        tensor(chunk_offsets, torch.int32),
        len(starts),
        len(offsets) - 1,
    )


def longest_sequence(T: int, offsets: tuple[int, ...] | None) -> int:
    """The number of tokens of the longest sequence."""
    return T if offsets is None else max(end - start for start, end in pairwise(offsets))


def padded_key_dim(K: int) -> int:
    """The key dim of scratch tiles: a power of two, as the sizes of Triton's tiles are."""
    return max(16, 1 << (K - 1).bit_length())


def padded_value_dim(V: int) -> int:
    """The value dim of scratch tiles: a power of two up to 64, then a multiple of 64, since columns come in blocks."""
    return max(16, 1 << (V - 1).bit_length()) if V <= 64 else -(-V // 64) * 64
