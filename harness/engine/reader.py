"""Reads runs of tokens behind states: the one place where prompts go through the model.

A batch is a rectangle whose rows are filled up, a little, with steps that change nothing. It is read in steps that
carry the state, so memory does not grow with the context; rows that have ended leave it. An allocation that fails
halves the limits, and the rows of the step that failed are read in two parts.

Letters: B rows, T tokens of a step, D width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gdn2 import GDN2ForCausalLM, RecurrentState
from harness.engine.memory import is_out_of_memory, out_of_memory, release
from harness.engine.units import CHUNK, Limits, pack, step_width
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
        self,
        rows: Sequence[Sequence[int]],
        state: RecurrentState | None,
        visit: Visitor,
        *,
        keep: bool,
    ) -> RecurrentState | None:
        """Read each row's tokens, at least one, behind its row of `state` (None: at the beginning of a text).

        Returns:
            The state behind each row, if `keep`.

        Raises:
            UserError: memory does not suffice for a single row of CHUNK tokens.
            harness.engine.watch.StateError: a state that is not finite.
        """
        if state is None:
            state = self.model.model.empty_state(len(rows))
        parts = pack([len(row) for row in rows], self.limits)
        if len(parts) > 1:  # planned with limits that have shrunk since
            return self._read_parts(parts, rows, state, visit, keep=keep)
        order = sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i))
        if order != list(range(len(rows))):
            state = state.select(order)
        active, offset, ended = list(order), 0, []
        while active:
            remaining = [len(rows[i]) - offset for i in active]
            width = step_width(remaining, self.limits)
            ids = [list(rows[i][offset : offset + width]) for i in active]
            state = self._step(ids, state, active, offset, visit)
            left = sum(length > width for length in remaining)
            if keep and left < len(active):
                ended.append((active[left:], state if not left else state.select(range(left, len(active)))))
            if left < len(active) and left:
                state = state.select(range(left))
            active, offset = active[:left], offset + width
        if not keep:
            return None
        places = [row for rows_ended, _ in ended for row in rows_ended]
        whole = ended[0][1] if len(ended) == 1 else RecurrentState.concat([part for _, part in ended])
        if places == list(range(len(rows))):
            return whole
        position = {row: at for at, row in enumerate(places)}
        return whole.select([position[row] for row in range(len(rows))])

    def _read_parts(
        self,
        parts: Sequence[Sequence[int]],
        rows: Sequence[Sequence[int]],
        state: RecurrentState,
        visit: Visitor,
        *,
        keep: bool,
    ) -> RecurrentState | None:
        ends = []
        for part in parts:

            def visit_part(
                at: Sequence[int], offset: int, lengths: Sequence[int], hidden: Tensor, part: Sequence[int] = part
            ) -> None:
                visit([part[row] for row in at], offset, lengths, hidden)

            ends.append(self.read([rows[i] for i in part], state.select(list(part)), visit_part, keep=keep))
        if not keep:
            return None
        place = {row: at for at, row in enumerate(i for part in parts for i in part)}
        whole = RecurrentState.concat([end for end in ends if end is not None])
        return whole.select([place[row] for row in range(len(rows))])

    def _step(
        self, ids: list[list[int]], state: RecurrentState, rows: Sequence[int], offset: int, visit: Visitor
    ) -> RecurrentState:
        """One step of some rows; in two parts if memory does not suffice."""
        try:
            hidden, after = self._forward(ids, state)
            visit(rows, offset, [len(row) for row in ids], hidden)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            self.watch.check(after, lambda n: self._forward([row[:n] for row in ids], state)[1], len(ids[0]))
            self.tokens_read += len(ids) * max(map(len, ids))
            return after
        return self._in_two(ids, state, rows, offset, visit)  # outside the handler, which holds the failed tensors

    def _in_two(
        self, ids: list[list[int]], state: RecurrentState, rows: Sequence[int], offset: int, visit: Visitor
    ) -> RecurrentState:
        release()
        width = max(map(len, ids))
        if len(ids) == 1 and width <= CHUNK:
            raise out_of_memory(self.model.device, f"one row of {width} tokens")
        self.limits = self.limits.halved()
        log.warning("out of memory: going on with %d tokens and %d rows a step", self.limits.tokens, self.limits.rows)
        if len(ids) > 1:
            half = len(ids) // 2
            first = self._step(ids[:half], state.select(range(half)), rows[:half], offset, visit)
            second = self._step(ids[half:], state.select(range(half, len(ids))), rows[half:], offset, visit)
            return RecurrentState.concat([first, second])
        half = max(CHUNK, width // 2 // CHUNK * CHUNK)
        state = self._step([ids[0][:half]], state, rows, offset, visit)
        return self._step([ids[0][half:]], state, rows, offset + half, visit)

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
