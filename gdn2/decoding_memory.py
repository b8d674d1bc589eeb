"""The rows of a generation in memory of their own, which its steps overwrite.

Rows come, go and move in it without a second copy of the whole. Of a model on a CPU only attention's slots are kept in
place; a CUDA graph runs on fixed memory, so for it everything is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gdn2.state import GROWING, SLOTTED, LayerState, Place, RecurrentState, parts_of

LEAST_SLOTS = 256  # full attention's room is a multiple of it at first, and doubles when it is full


class DecodingMemory:
    """Memory for rows that read one token at a time.

    Args:
        empty: makes the state of so many texts before their first token.
        everything: whether all of the state lies in fixed memory, not only attention's slots.

    Attributes:
        state: of the rows that are held, in views of the memory; None: there are none.
        rows: how many there is room for.
        moves: how often the memory has been replaced by other memory.
    """

    def __init__(self, empty: Callable[[int], RecurrentState], *, everything: bool) -> None:
        self.state: RecurrentState | None = None
        self.rows = self.moves = 0
        self.everything = everything
        self._pattern = empty(1)
        self._grows = self._pattern.grows
        self._layers: list[dict[str, Tensor]] = []
        self._lengths = self._pattern.lengths
        self._slots = self._most = self._longest = 0

    def arrange(self, places: Sequence[Place], *, rows: int, most_slots: int = 0) -> RecurrentState:
        """Hold the given rows, in their order: of the held state, or copied from others.

        Args:
            places: the rows. What the held state has beside them is lost.
            rows: room for at least so many.
            most_slots: no row will have more tokens; 0: that is not known.

        Returns:
            The held state, which holds until the next call or step.
        """
        rest = RecurrentState.gather(places, leave=self._fields())
        self._longest, self._most = int(rest.lengths.max()), most_slots
        parts = parts_of(places)
        self._reserve(max(rows, len(places)), keep=any(part.state is self.state for part in parts))
        moving = [part.moving() for part in parts if part.state is self.state]
        coming = [part for part in parts if part.state is not self.state]
        for index, layer in enumerate(self._layers):
            for name, memory in layer.items():
                for part in moving:  # before others are in their places
                    part.move(memory, grows=name in GROWING)
                for part in coming:
                    part.copy(part.state.layers[index].tensors()[name], memory, grows=name in GROWING)
        self._hold(rest)
        assert self.state is not None
        return self.state

    def make_room(self) -> None:
        """See that every row has a slot for its next token."""
        self._reserve(self.rows, keep=True)

    def stepped(self, state: RecurrentState | None = None) -> None:
        """Note that each row has read a token; `state` is what came of it, if that is not in the memory already."""
        self._longest += 1
        self.state = state or self.state

    def keep_slots_only(self) -> None:
        """From now on only attention's slots lie in fixed memory."""
        self.everything = False
        self._layers = [{name: x for name, x in layer.items() if name in SLOTTED} for layer in self._layers]

    def first_rows(self, rows: int) -> RecurrentState:
        """The memory of so many rows, whether they are held or not, where everything lies in it."""
        layers = [LayerState(**{name: x[:rows] for name, x in layer.items()}) for layer in self._layers]
        return RecurrentState(layers, self._lengths[:rows])

    def _fields(self) -> tuple[str, ...]:
        """The fields of layers that lie in the memory."""
        names = {name for layer in self._pattern.layers for name in layer.tensors()}
        return tuple(name for name in names if self.everything or name in SLOTTED)

    def _hold(self, rest: RecurrentState) -> None:
        """Make the state of the memory's first rows and of what is not in it."""
        count, lengths = rest.batch_size, rest.lengths
        if self.everything:
            lengths = self._lengths[:count].copy_(lengths)
        layers = [
            LayerState(**layer.tensors(), **{name: x[:count] for name, x in memory.items()})
            for layer, memory in zip(rest.layers, self._layers, strict=True)
        ]
        self.state = RecurrentState(layers, lengths)

    def _reserve(self, rows: int, *, keep: bool) -> None:
        """Have room for so many rows and for a token more in each; what is held stays if it is to be kept."""
        needed = self._longest + 1 if self._grows else 0
        if self._layers and rows <= self.rows and needed <= self._slots:
            return
        slots = self._slots if keep else 0
        if needed > slots:
            slots = max(2 * slots, -(-needed // LEAST_SLOTS) * LEAST_SLOTS)
            slots = max(needed, min(slots, self._most or slots))
        if not keep:
            self.state, self._layers = None, []
        self.rows, self._slots = max(rows, self.rows) if keep else rows, slots
        self.moves += 1
        with torch.inference_mode(False):  # steps in other modes write to it as well
            self._move()

    def _move(self) -> None:
        """Move to new memory, a layer at a time, so that old and new are never both there."""
        fields, old, held = self._fields(), self._layers, self.state
        self._layers = [{} for _ in self._pattern.layers]
        for index, (pattern, layer) in enumerate(zip(self._pattern.layers, self._layers, strict=True)):
            for name, tensor in pattern.tensors().items():
                if name not in fields:
                    continue
                shape = tensor.shape[1:] if name not in GROWING else (self._slots, *tensor.shape[2:])
                layer[name] = _zeros(tensor, (self.rows, *shape), by_head=name in SLOTTED)
                if held is not None:
                    before = old[index].pop(name)
                    kept = layer[name][: len(before)]
                    (kept if name not in GROWING else kept[:, : before.shape[1]]).copy_(before)
            if held is not None:
                moved = {name: tensor[: held.batch_size] for name, tensor in layer.items()}
                layers = list(held.layers)
                layers[index] = LayerState(**{**layers[index].tensors(), **moved})
                held.layers = tuple(layers)
        if self.everything:
            lengths = self._pattern.lengths.new_zeros(self.rows)
            if held is not None:
                lengths[: held.batch_size] = held.lengths
                held.lengths = lengths[: held.batch_size]
            self._lengths = lengths


def _zeros(like: Tensor, shape: tuple[int, ...], *, by_head: bool) -> Tensor:
    """Zeros of that shape; with `by_head` all slots [B, S, H, d] of a head lie together, as a step reads them."""
    if not by_head or len(shape) < 4:
        return like.new_zeros(shape)
    rows, slots, heads, channels = shape
    return like.new_zeros(rows, heads, slots, channels).transpose(1, 2)
