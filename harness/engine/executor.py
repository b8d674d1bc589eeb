"""Runs units of a plan in this process: reads their nodes, forks states at what they share, scores and generates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from gdn2 import GDN2ForCausalLM, RecurrentState
from gdn2.state import Place
from harness.engine.decoder import Decoder, Ready
from harness.engine.reader import Reader
from harness.engine.requests import GenerateRequest, ScoreRequest
from harness.engine.schedule import needed_batches, schedule
from harness.engine.scorer import Scorer
from harness.engine.snapshot import Snapshots, UnderWay
from harness.engine.stops import StopRule
from harness.engine.trunks import Trunks
from harness.engine.units import Limits, Trunk, Unit, UnitNode
from harness.engine.watch import StateWatch, norms_of

Score = tuple[float, bool]
Visit = Callable[[Sequence[int], int, Sequence[int], Tensor], None]
"""As `harness.engine.reader.Visitor`, with the unit's nodes in place of a batch's rows."""


class LocalExecutor:
    """Runs units with `model` within `limits`.

    Args:
        stop_rule: says when a generation is over.
        trunks: keeps the states of prefixes that many requests share.

    Attributes:
        on_tokens: called with the number of tokens that were just read or generated.
    """

    def __init__(
        self, model: GDN2ForCausalLM, limits: Limits, stop_rule: StopRule, trunks: Trunks | None = None
    ) -> None:
        self.model, self.limits, self.stop_rule = model, limits, stop_rule
        self.watch = StateWatch()
        self.reader = Reader(model, limits, self.watch)
        self.trunks = trunks or Trunks()
        self.on_tokens: Callable[[int], None] = lambda _: None

    def describe(self) -> dict[str, Any]:
        """For the record: what a step held, and the largest state that was seen."""
        largest = self.watch.largest
        return {
            "batch_tokens": self.reader.limits.tokens,
            "batch_rows": self.reader.limits.rows,
            "largest_state": None if largest is None else largest.as_dict(),
            "state_norms": norms_of(self.watch.norms),
        }

    def run_scores(
        self, units: Iterable[Unit], requests: Sequence[ScoreRequest], known: Container[int] = ()
    ) -> Generator[dict[int, Score], None, None]:
        """Results of the units' requests that are not `known`, a batch at a time, as soon as they are finished."""
        for unit in units:
            yield from self.score_unit(unit, {index: requests[index] for index in unit.requests}, known)

    def run_generations(
        self,
        units: Sequence[Unit],
        requests: Mapping[int, GenerateRequest],
        done: Callable[[int, list[int]], None],
        snapshots: Snapshots | None = None,
    ) -> None:
        """Continue the prompts of the units that are in `requests`, and what `snapshots` have of them.

        `done(request, ids)` is called as soon as one is finished.
        """
        found = snapshots.load(self.model.device, requests) if snapshots else UnderWay()
        for number, ids in found.finished.items():
            done(number, ids)
        there = {*found.finished, *found.ids}
        known = {i for unit in units for i in unit.requests if i not in requests or i in there}
        prompts = chain.from_iterable(self._prompts(unit, known) for unit in units)  # which keeps none of them alive
        taken_up = [] if found.ready is None else [found.ready]
        most = max((asked.max_tokens for asked in requests.values()), default=0)
        limits = self.limits.within(max((unit.longest for unit in units), default=0) + most)
        decoder = Decoder(self.model, self.stop_rule, self.watch, limits.rows)
        under_way = snapshots.save_if_due if snapshots else None
        try:
            decoder.run(requests, chain(taken_up, prompts), done, self.on_tokens, under_way, found.ids)
        finally:
            if snapshots:
                snapshots.wait()

    def score_unit(
        self, unit: Unit, requests: Mapping[int, ScoreRequest], known: Container[int] = ()
    ) -> Generator[dict[int, Score], None, None]:
        """As `run_scores`, of one unit.

        Batches are those of the whole unit, so that a result does not depend on what is known, to the last bit; those
        that nobody needs are left out.
        """
        scorer = Scorer(self.model, dict(requests))

        def visit(nodes: Sequence[int], offset: int, lengths: Sequence[int], hidden: Tensor) -> None:
            scorer.visit([unit.nodes[node] for node in nodes], offset, lengths, hidden)

        for batch, _ in self._read(unit, visit, known):
            ending = [i for node in batch for i in unit.nodes[node].ending if i not in known]
            if ending:
                yield {index: scorer.result(index) for index in ending}

    def _prompts(self, unit: Unit, known: Container[int]) -> Iterator[Ready]:
        """The unit's prompts that are not `known`, a batch at a time, read when they are asked for.

        Batches are those of the whole unit, as in `score_unit`.
        """
        last: dict[int, Tensor] = {}

        def visit(nodes: Sequence[int], offset: int, lengths: Sequence[int], hidden: Tensor) -> None:
            for row, (node, length) in enumerate(zip(nodes, lengths, strict=True)):
                if offset + length == len(unit.nodes[node].tokens) and unit.nodes[node].ending:
                    last[node] = hidden[row, length - 1].clone()

        for batch, state in self._read(unit, visit, known):
            ends = [(row, node, i) for row, node in enumerate(batch) for i in unit.nodes[node].ending]
            pairs = [end for end in ends if end[2] not in known]
            if pairs and state is not None:
                with torch.inference_mode():
                    hidden = torch.stack([last[node] for _, node, _ in pairs])
                given = [Ready([i for _, _, i in pairs], hidden, [(state, row) for row, _, _ in pairs])]
                state = None  # whoever takes it decides how long it lives
                yield given.pop()
            for node in batch:
                last.pop(node, None)

    def _read(
        self, unit: Unit, visit: Visit, known: Container[int] = ()
    ) -> Iterator[tuple[list[int], RecurrentState | None]]:
        """Read a unit's nodes, and give each batch of them with the states behind it.

        Batches that nobody needs because of what is `known` are left out.
        """
        batches = needed_batches(unit, schedule(unit, self.limits), known)
        states: dict[int, Place] = {}  # of nodes with children still to be read
        trunks: dict[Trunk, Place] = {}
        to_come = Counter(unit.nodes[node].parent for batch in batches for node in batch)
        for batch in batches:

            def visit_batch(
                rows: Sequence[int], offset: int, lengths: Sequence[int], hidden: Tensor, batch: list[int] = batch
            ) -> None:
                visit([batch[row] for row in rows], offset, lengths, hidden)
                self.on_tokens(sum(lengths))

            nodes = [unit.nodes[node] for node in batch]
            with torch.inference_mode():
                places = [self._trunk(node, trunks) if node.parent is None else states[node.parent] for node in nodes]
                keep = any(node.keeps_state for node in nodes)
                state = self.reader.read([node.tokens for node in nodes], places, visit_batch, keep=keep)
            del places
            for row, (node, index) in enumerate(zip(nodes, batch, strict=True)):
                to_come[node.parent] -= 1
                if node.parent is not None and not to_come[node.parent]:
                    del states[node.parent]
                if state is not None and to_come[index]:
                    states[index] = (state, row)
            given, state = [state], None  # whoever takes it decides how long it lives
            yield batch, given.pop()

    def _trunk(self, node: UnitNode, trunks: dict[Trunk, Place]) -> Place:
        """The state behind which a node without a parent is read."""
        if node.trunk not in trunks:
            before = self.reader.tokens_read
            state = self.trunks.state(node.trunk, self.reader)
            self.on_tokens(self.reader.tokens_read - before)
            trunks[node.trunk] = (self.model.model.empty_state(1) if state is None else state, 0)
        return trunks[node.trunk]
