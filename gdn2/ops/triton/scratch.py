"""The scratch memory of a forward pass: allocated once a call, with room for two segments.

While the scan of a segment reads what its chunks have prepared, the next segment is prepared beside it. So segments
take turns at two rooms for what a scan reads; what only `prepare` itself reads has one room for all of them, since
launches of `prepare` run one after the other. In memory:

    kept of the segments 0, 2, 4, ...  |  kept of 1, 3, 5, ...  |  passing

Segment 0 has what passes right after its own, where segment 1 will write once it is done, so that a short second
segment takes no more memory than it needs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from gdn2.ops.triton.forms import Form
from gdn2.ops.triton.kernel_set import KernelSet

ALIGNED = 256  # bytes; the tiles of all parts but the last of a room are multiples of it
WORD = 4  # bytes of the numbers that the memory is allocated in


class TileKind(NamedTuple):
    """Tiles of one kind: their name, the bytes of that of one chunk and head, and the dtype of its numbers."""

    name: str
    size: int
    dtype: torch.dtype


class ScratchTiles(NamedTuple):
    """Where the tiles of a segment are, as tensors or as addresses.

    Attributes:
        A: the matrix of the affine map that a chunk is for its state; or W (forms.py).
        B: what that map adds; or U0.
        Q: queries with the decay since the start of the chunk, Q+; or R, which overwrites them.
        K: keys with the decay until the end of the chunk, K-.
        P: decayed inner products of queries and keys.
        E: erase vectors with the decay since the start of the chunk, E+; W, which is made of them, overwrites them.
        M: (I + L)^-1.
        L: decayed inner products of erase vectors and keys.
        carry: the decay of a whole chunk, one number a key channel.
        by_level: 1 for chunks whose decay is too strong for a single reference, else 0.
    """

    A: Tensor | int
    B: Tensor | int
    Q: Tensor | int
    K: Tensor | int
    P: Tensor | int
    E: Tensor | int
    M: Tensor | int
    L: Tensor | int
    carry: Tensor | int
    by_level: Tensor | int


class Scratch:
    """The memory of one call.

    Args:
        kernels: whose tiles they are.
        slots: the number of chunks, times heads, of the first two segments, or of the only one; later ones have no more
            than the second.
    """

    def __init__(self, kernels: KernelSet, slots: tuple[int, ...]) -> None:
        self.parts = parts_of(kernels.C, kernels.KP, kernels.VP, kernels.scratch_dtype, kernels.form)
        kept, passing = self.parts
        self.slots = slots
        first, second = room(kept, slots[0]), room(kept, slots[1]) if len(slots) > 1 else 0
        needed = room(passing, slots[0])
        if len(slots) > 1:
            needed = max(needed, second + room(passing, slots[1]))
        self.starts = (0, first, first + second)
        self.memory = kernels.empty(1, (first + needed) // WORD, torch.float32)

    def places(self, *, addresses: bool) -> list[ScratchTiles]:
        """Where segment 0 is; if there are more, also where 1, 3, 5, ... are, and where 2, 4, 6, ... are."""
        even, odd, passing = self.starts
        n = self.slots[0]
        found = [self._place(even, n, odd, n, addresses=addresses)]
        for kept in (odd, even) if len(self.slots) > 1 else ():
            m = self.slots[1]
            found.append(self._place(kept, n if kept == even else m, passing, m, addresses=addresses))
        return found

    def _place(self, kept: int, n: int, passing: int, m: int, *, addresses: bool) -> ScratchTiles:
        """The place of `n` kept tiles of each kind from the byte `kept` on, and of `m` passing ones."""
        found: dict[str, Tensor | int] = {}
        first = self.memory.data_ptr()
        for parts, at, count in ((self.parts[0], kept, n), (self.parts[1], passing, m)):
            for name, size, dtype in parts:
                found[name] = first + at if addresses else self._tensor(at, size * count, dtype)
                at += size * count
        if "E" not in found:
            found["E"] = found["A"]
        return ScratchTiles(**found)

    def _tensor(self, at: int, size: int, dtype: torch.dtype) -> Tensor:
        return self.memory[at // WORD : (at + size) // WORD].view(dtype)


@lru_cache(maxsize=256)
def parts_of(
    C: int, KP: int, VP: int, dtype: torch.dtype, form: Form
) -> tuple[tuple[TileKind, ...], tuple[TileKind, ...]]:
    """What the scan reads, and what only `prepare` does, the smallest last; no E where W overwrites it.

    Args:
        C: tokens of a chunk.
        KP: the padded key dim.
        VP: the padded value dim.
        dtype: of the tiles that kernels hand to each other.
        form: in which a chunk goes from `prepare` to the scan.
    """
    rows, size, single = C if form.writes else KP, dtype.itemsize, torch.float32.itemsize
    parts = [
        TileKind("A", rows * KP * size, dtype),
        TileKind("B", rows * VP * size, dtype),
        TileKind("Q", C * KP * size, dtype),
    ]
    parts += [TileKind("K", C * KP * size, dtype), TileKind("P", C * C * size, dtype)]
    if not form.writes:
        parts.append(TileKind("E", C * KP * size, dtype))
    parts += [TileKind("M", C * C * size, dtype), TileKind("L", C * C * single, torch.float32)]
    parts += [TileKind("carry", KP * single, torch.float32), TileKind("by_level", single, torch.int32)]
    read: tuple[str, ...] = ("A", "B", "Q", "carry")
    if form.writes:
        read = (*read, "K", "P") if form.late else (*read, "K")
    return tuple(p for p in parts if p.name in read), tuple(p for p in parts if p.name not in read)


def room(parts: tuple[TileKind, ...], slots: int) -> int:
    """The bytes of so many tiles of each part, up to the next aligned address."""
    return -(-slots * sum(part.size for part in parts) // ALIGNED) * ALIGNED
