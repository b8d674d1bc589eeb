"""Reads runs of tokens behind states: the one place where prompts go through the model.

A batch is a rectangle whose rows are filled up, a little, with steps that change nothing. It is read in steps that
carry the state, so memory does not grow with the context; rows that have ended leave it. Steps overwrite what attention
remembers, in memory that has room for all tokens. An allocation that fails halves the limits, and the rows of the batch
are read again in parts.

Letters: B rows, T tokens of a step, D width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gdn2 import GDN2ForCausalLM, RecurrentState
from gdn2.ops.overwriting import overwriting_slots
from gdn2.state import SLOTTED, LayerState, Place
from harness.engine.memory import is_out_of_memory, out_of_memory, release
from harness.engine.units import CHUNK, SEGMENT, Limits, pack, step_width
from harness.engine.watch import StateWatch

log = logging.getLogger(__name__)

Visitor = Callable[[Sequence[int], int, Sequence[int], Tensor], None]
"""Called after a step with (rows, offset, lengths, hidden [B, T, D]): row rows[i] of the batch has its tokens
[offset, offset + lengths[i]) in hidden[i]; what lies behind them means nothing."""


class Reader:
    """Reads with `model` within `limits`, which shrink when memory does not suffice.

    Attributes:
        limits: of a step, as they are now.
        tokens_read: tokens that went through the model, with what filled up the rectangles.
    """

    def __init__(self, model: GDN2ForCausalLM, limits: Limits, watch: StateWatch) -> None:
        self.model, self.limits, self.watch = model, limits, watch
        self.tokens_read = 0

    def read(
        self, rows: Sequence[Sequence[int]], behind: Sequence[Place] | None, visit: Visitor, *, keep: bool
    ) -> RecurrentState | None:
        """Read each row's tokens, at least one, behind its place in a state (None: at the beginning of a text).

        Returns:
            The state behind each row, if `keep`.

        Raises:
            UserError: memory does not suffice for a single row of CHUNK tokens.
            harness.engine.watch.StateError: a state that is not finite.
        """
        if behind is None:
            behind = [(self.model.model.empty_state(1), 0)] * len(rows)
        return self._read(_Batch(rows, behind, visit), list(range(len(rows))), keep=keep)

    def _read(self, batch: _Batch, chosen: Sequence[int], *, keep: bool) -> RecurrentState | None:
        """Read some rows of a batch; in smaller parts, from their beginning, if memory does not suffice."""
        parts = pack([len(batch.rows[row]) for row in chosen], self.limits)
        if len(parts) > 1:  # planned with limits that have shrunk since
            ends = [self._read(batch, [chosen[i] for i in part], keep=keep) for part in parts]
            places = {
                i: (end, at)
                for part, end in zip(parts, ends, strict=True)
                if end is not None
                for at, i in enumerate(part)
            }
            return RecurrentState.gather([places[i] for i in range(len(chosen))]) if keep else None
        try:
            return self._read_together(batch, [chosen[i] for i in parts[0]], chosen, keep=keep)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        release()  # outside the handler, which holds the failed tensors
        width = min(self.limits.tokens, max(len(batch.rows[row]) for row in chosen))
        if len(chosen) == 1 and width <= CHUNK:
            raise out_of_memory(self.model.device, f"one row of {width} tokens")
        self.limits = self.limits.halved()
        log.warning("out of memory: going on with %d tokens and %d rows a step", self.limits.tokens, self.limits.rows)
        return self._read(batch, chosen, keep=keep)

    def _read_together(
        self, batch: _Batch, order: Sequence[int], wanted: Sequence[int], *, keep: bool
    ) -> RecurrentState | None:
        """Read rows step by step, the longest first, in memory that has room for all their tokens from the beginning.

        A row that has ended stays in it, so that nothing is copied when the rest goes on.
        """
        whole = batch.memory(order)
        state, active, offset, ended = whole, list(order), 0, []
        while active:
            remaining = [len(batch.rows[row]) - offset for row in active]
            width = step_width(remaining, self.limits)
            ids = [list(batch.rows[row][offset : offset + width]) for row in active]
            with overwriting_slots():
                hidden, state = self._forward(ids, state)
            batch.tell(active, offset, [len(row) for row in ids], hidden)
            self.watch.check(state, self._replay(batch, active, offset), len(ids[0]))
            self.tokens_read += len(ids) * len(ids[0])
            left = sum(length > width for length in remaining)
            if keep and left < len(active):
                ended.append(state.rows(left, len(active)))
            active, offset, state = active[:left], offset + width, state.rows(0, left)
        if not keep:
            return None
        whole = _joined(whole, ended[::-1])
        if list(order) == list(wanted):
            return whole
        return whole.select([order.index(row) for row in wanted])

    def _replay(self, batch: _Batch, rows: Sequence[int], offset: int) -> Callable[[int], RecurrentState]:
        """What gives the state behind n tokens of a step, read once more from the beginning into other memory."""
        before: list[RecurrentState] = []

        def read(state: RecurrentState, start: int, end: int) -> RecurrentState:
            return self._forward([list(batch.rows[row][start:end]) for row in rows], state)[1]

        def replay(tokens: int) -> RecurrentState:
            if not before:
                state = batch.memory(rows)
                for start in range(0, offset, SEGMENT):
                    state = read(state, start, min(start + SEGMENT, offset))
                before.append(state)
            return read(before[0], offset, offset + tokens)

        return replay

    def _forward(self, ids: list[list[int]], state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        tokens, mask = self._rectangle(ids)
        outputs: Any = self.model.model(input_ids=tokens, attention_mask=mask, past_key_values=state, use_cache=True)
        return outputs.last_hidden_state, outputs.past_key_values

    def _rectangle(self, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor | None]:
        """Token ids [B, T], filled up on the right, and the mask where something is."""
        width, device = max(map(len, rows)), self.model.device
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
        if all(len(row) == width for row in rows):
            return ids, None
        lengths = torch.tensor([len(row) for row in rows], device=device)
        return ids, torch.arange(width, device=device) < lengths[:, None]


class _Batch:
    """Rows to read, behind which places, and who is told."""

    def __init__(self, rows: Sequence[Sequence[int]], behind: Sequence[Place], visit: Visitor) -> None:
        self.rows, self._behind, self._visit = rows, behind, visit
        self._told = [0] * len(rows)  # tokens of each row

    def memory(self, rows: Sequence[int]) -> RecurrentState:
        """The states that some rows begin with, copied, with room for all their tokens."""
        places = [self._behind[row] for row in rows]
        lengths = {key: state.lengths.tolist() for key, state in {id(state): state for state, _ in places}.items()}
        slots = max(lengths[id(state)][at] + len(self.rows[row]) for row, (state, at) in zip(rows, places, strict=True))
        return RecurrentState.gather(places, slots=slots)

    def tell(self, rows: Sequence[int], offset: int, lengths: Sequence[int], hidden: Tensor) -> None:
        """Call the visitor with what a step gave, without what it was told before memory did not suffice."""
        known = max(max(self._told[row] for row in rows) - offset, 0)
        new = [(row, length) for row, length in zip(rows, lengths, strict=True) if length > known]
        if new:
            kept = [length - known for _, length in new]
            self._visit([row for row, _ in new], offset + known, kept, hidden[: len(new), known:])
        for row, length in new:
            self._told[row] = offset + length


def _joined(memory: RecurrentState, parts: Sequence[RecurrentState]) -> RecurrentState:
    """One state of parts that follow one another in the same memory, as far as they lie in it."""
    layers = []
    for index, whole in enumerate(memory.layers):
        slots = {name: tensor for name, tensor in whole.tensors().items() if name in SLOTTED}
        rest = [part.layers[index].tensors() for part in parts]
        layers.append(
            LayerState(**slots, **{name: torch.cat([x[name] for x in rest]) for name in rest[0].keys() - slots})
        )
    return RecurrentState(layers, torch.cat([part.lengths for part in parts]))
