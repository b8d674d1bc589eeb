"""Continuous generation: rows of a pool take one step at a time, and a finished row's place goes to the next prompt.

Letters: R rows of the pool, D width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gdn2 import GDN2ForCausalLM, RecurrentState
from gdn2.decoding import decoding_of
from harness.engine.memory import is_out_of_memory, out_of_memory, release
from harness.engine.requests import GenerateRequest
from harness.engine.stops import StopRule
from harness.engine.watch import StateError, StateWatch

log = logging.getLogger(__name__)

FREE = 1 / 8  # of the places: so many are refilled together, and so many may be empty before the rest moves up
WATCH_STEPS = 32  # steps between two looks at the states


@dataclass(slots=True)
class Ready:
    """Prompts that have been read: one row each.

    Attributes:
        requests: their numbers; -1 for a row that is finished and still there.
        hidden: the model's output [R, D] at their last tokens.
        state: behind them.
    """

    requests: list[int]
    hidden: Tensor
    state: RecurrentState

    @property
    def alive(self) -> list[int]:
        """The rows that are not finished."""
        return [row for row, number in enumerate(self.requests) if number >= 0]

    def select(self, rows: Sequence[int]) -> Ready:
        """The given rows, in the given order."""
        rows = list(rows)
        return Ready([self.requests[row] for row in rows], self.hidden[rows], self.state.select(rows))

    @staticmethod
    def join(parts: list[Ready]) -> Ready:
        """One of all parts."""
        if len(parts) == 1:
            return parts[0]
        requests = [request for part in parts for request in part.requests]
        hidden = torch.cat([part.hidden for part in parts])
        return Ready(requests, hidden, RecurrentState.concat([part.state for part in parts]))


def _nobody(*_: object) -> None:
    """Keeps nothing."""


class Decoder:
    """Generates greedily in `places` rows at a time; fewer, once memory did not suffice."""

    def __init__(self, model: GDN2ForCausalLM, stop_rule: StopRule, watch: StateWatch, places: int) -> None:
        """Set up an empty pool.

        Args:
            model: what generates.
            stop_rule: when a generation is over.
            watch: what is told of states that grow.
            places: rows that generate at a time.
        """
        self.model, self.stop_rule, self.watch, self.places = model, stop_rule, watch, places
        self._waiting: list[Ready] = []  # read, and without a place yet

    @torch.inference_mode()
    def run(
        self,
        requests: Mapping[int, GenerateRequest],
        prompts: Iterator[Ready],
        done: Callable[[int, list[int]], None],
        stepped: Callable[[int], None],
        under_way: Callable[[list[Ready], Mapping[int, list[int]]], None] | None = None,
        begun: Mapping[int, list[int]] | None = None,
    ) -> None:
        """Continue every prompt to its end.

        Args:
            requests: by the numbers that `prompts` has.
            prompts: read when there are places for them.
            done: called with a request's number and its ids as soon as it is finished.
            stepped: called after each step with the rows that took part in it.
            under_way: called after each step with all rows that have been read and the ids generated so far.
            begun: ids that were generated before, of requests that go on.
        """
        tell = under_way or _nobody
        texts = _Texts(requests, self.stop_rule, done, begun or {})
        pool: Ready | None = None
        steps = 0
        while True:
            pool = self._refilled(pool, prompts, lambda rows: tell(rows, texts.ids))
            if pool is None:
                return
            steps += 1
            tokens, pool = self._choose(pool, texts)
            if pool.alive:
                stepped(len(pool.alive))
            if pool.alive:
                pool = self._advance(pool, tokens, look=steps % WATCH_STEPS == 0)
                tell([pool, *self._waiting], texts.ids)

    def _refilled(
        self, pool: Ready | None, prompts: Iterator[Ready], under_way: Callable[[list[Ready]], None]
    ) -> Ready | None:
        """The pool with new prompts in its empty places, when there are enough of these to be worth the move.

        `under_way` is told what has been read so far.
        """
        alive = pool.alive if pool is not None else []
        if pool is not None and len(alive) > self.places * (1 - FREE):
            return pool if len(alive) > len(pool.requests) * (1 - FREE) else pool.select(alive)
        parts = [pool.select(alive)] if pool is not None and alive else []
        free = self.places - len(alive)
        while free > 0 and (waiting := self._next(prompts)) is not None:
            taken = min(free, len(waiting.requests))
            parts.append(waiting.select(range(taken)))
            free -= taken
            if taken < len(waiting.requests):
                self._waiting.append(waiting.select(range(taken, len(waiting.requests))))
            under_way([*parts, *self._waiting])
        if pool is not None and len(parts) == 1 and len(alive) > len(pool.requests) * (1 - FREE):
            return pool  # nothing came, and little is empty
        return Ready.join(parts) if parts else None

    def _next(self, prompts: Iterator[Ready]) -> Ready | None:
        return self._waiting.pop() if self._waiting else next(prompts, None)

    def _choose(self, pool: Ready, texts: _Texts) -> tuple[Tensor, Ready]:
        """The next token of each row [R], and the pool in which the number of a finished row is -1."""
        best, tokens = self.model.lm_head(pool.hidden).max(-1)
        finite, chosen = torch.isfinite(best).tolist(), tokens.tolist()
        numbers = list(pool.requests)
        for row in pool.alive:
            if not finite[row]:
                raise texts.not_finite(numbers[row])
            if texts.add(numbers[row], chosen[row]):
                numbers[row] = -1
        return tokens, Ready(numbers, pool.hidden, pool.state)

    def _advance(self, pool: Ready, tokens: Tensor, *, look: bool) -> Ready:
        """The pool after its rows have read their tokens.

        If memory does not suffice, one half of the rows waits until the other half is finished.
        """
        try:
            hidden, state = decoding_of(self.model.model).step(tokens, pool.state)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            if look:
                self.watch.check(state, lambda _: state, 1)
            return Ready(list(pool.requests), hidden, state)
        release()
        alive = pool.alive
        if len(alive) == 1:
            raise out_of_memory(self.model.device, "one row and one token")
        self.places = max(1, len(alive) // 2)
        log.warning("out of memory: going on with %d rows generating at a time", self.places)
        first, second = alive[: self.places], alive[self.places :]
        later = self._advance(pool.select(second), tokens[second], look=look)
        self._waiting.append(later)
        return self._advance(pool.select(first), tokens[first], look=look)


class _Texts:
    """What has been generated so far."""

    def __init__(
        self,
        requests: Mapping[int, GenerateRequest],
        stop_rule: StopRule,
        done: Callable[[int, list[int]], None],
        begun: Mapping[int, list[int]],
    ) -> None:
        self._requests, self._stop_rule, self._done = requests, stop_rule, done
        self.ids = {number: list(ids) for number, ids in begun.items()}

    def add(self, number: int, token: int) -> bool:
        """Whether this token was the last of its request."""
        ids = self.ids.setdefault(number, [])
        ids.append(token)
        if not self._stop_rule.is_over(self._requests[number], ids):
            return False
        self._done(number, self.ids.pop(number))
        return True

    def not_finite(self, number: int) -> StateError:
        """The error for logits that are no numbers."""
        prompt, generated = self._requests[number].context_ids, self.ids.get(number, [])
        return StateError(
            f"the model predicts no number after {len(generated)} generated tokens behind a prompt of {len(prompt)}; "
            "a model that gives NaN generates nothing. Try another --dtype, or look at the checkpoint"
        )
