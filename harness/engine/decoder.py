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
from gdn2.state import Place
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
        places: the states behind them.
    """

    requests: list[int]
    hidden: Tensor
    places: list[Place]

    @staticmethod
    def of(requests: list[int], hidden: Tensor, state: RecurrentState) -> Ready:
        """All rows of a state."""
        return Ready(requests, hidden, [(state, row) for row in range(len(requests))])

    @property
    def alive(self) -> list[int]:
        """The rows that are not finished."""
        return [row for row, number in enumerate(self.requests) if number >= 0]

    def select(self, rows: Sequence[int]) -> Ready:
        """The given rows, in the given order; their states stay where they are."""
        rows = list(rows)
        return Ready([self.requests[row] for row in rows], self.hidden[rows], [self.places[row] for row in rows])

    def copied(self, device: torch.device) -> Ready:
        """The same in memory of its own."""
        return Ready.of(self.requests, self.hidden, RecurrentState.gather(self.places, device=device))

    @staticmethod
    def join(parts: list[Ready]) -> Ready:
        """One of all parts."""
        if len(parts) == 1:
            return parts[0]
        requests = [request for part in parts for request in part.requests]
        return Ready(requests, torch.cat([part.hidden for part in parts]), [x for part in parts for x in part.places])


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
        self._decoding = decoding_of(model.model)
        self._rows = self._most_slots = 0  # of all that is asked for

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
        self._rows = len(requests)
        self._most_slots = max((len(asked.context_ids) + asked.max_tokens for asked in requests.values()), default=0)
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
        if len(alive) <= self.places * (1 - FREE):
            while (new := self._next(prompts, self.places - len(alive))) is not None:
                pool, new = self._arranged(pool, new), None
                alive = pool.alive
                under_way([pool, *self._waiting])
        if pool is None or not alive:
            return None
        return pool if len(alive) > len(pool.requests) * (1 - FREE) else self._arranged(pool, None)

    def _next(self, prompts: Iterator[Ready], most: int) -> Ready | None:
        """Prompts for at most so many places."""
        found = None
        if most > 0:
            found = self._waiting.pop() if self._waiting else next(prompts, None)
        if found is not None and len(found.requests) > most:
            self._waiting.append(found.select(range(most, len(found.requests))))
            return found.select(range(most))
        return found

    def _arranged(self, pool: Ready | None, new: Ready | None) -> Ready:
        """The rows of the pool that are not finished, and new ones in the places of those that are."""
        alive = [] if pool is None else [(pool, row) for row in pool.alive]
        coming = [] if new is None else [(new, row) for row in range(len(new.requests))]
        count = len(alive) + len(coming)
        staying = {row: (part, row) for part, row in alive if row < count}
        moving = iter([*((part, row) for part, row in alive if row >= count), *coming])
        rows = [staying.get(at) or next(moving) for at in range(count)]
        places = [part.places[row] for part, row in rows]
        most = max(min(self.places, self._rows), count)
        state = self._decoding.arrange(places, rows=most, most_slots=self._most_slots)
        hidden = torch.stack([part.hidden[row].to(self.model.device) for part, row in rows])
        return Ready.of([part.requests[row] for part, row in rows], hidden, state)

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
        return tokens, Ready(numbers, pool.hidden, pool.places)

    def _advance(self, pool: Ready, tokens: Tensor, *, look: bool) -> Ready:
        """The pool after its rows have read their tokens.

        If memory does not suffice, one half of the rows waits until the other half is finished.
        """
        try:
            hidden, state = self._decoding.step(tokens, pool.places[0][0])
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            if look:
                self.watch.check(state, lambda _: state, 1)
            return Ready.of(list(pool.requests), hidden, state)
        alive = pool.alive
        if len(alive) == 1:
            raise out_of_memory(self.model.device, "one row and one token")
        self.places = max(1, len(alive) // 2)
        log.warning("out of memory: going on with %d rows generating at a time", self.places)
        parts = [(pool.select(rows), tokens[rows]) for rows in (alive[: self.places], alive[self.places :])]
        (first, to_first), (second, to_second) = [(part.copied(torch.device("cpu")), ids) for part, ids in parts]
        del pool, parts
        self._decoding.forget()
        release()
        later = self._advance(self._arranged(None, second), to_second, look=look)
        self._waiting.append(later.copied(torch.device("cpu")))
        return self._advance(self._arranged(None, first), to_first, look=look)


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
