"""Runs units of a plan in this process: reads their nodes, forks states at what they share, scores and generates."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from gdn2 import GDN2ForCausalLM, RecurrentState
from harness.decoder import Decoder, Ready
from harness.plan import Limits, Unit, pack
from harness.reader import Reader
from harness.requests import GenerateRequest, ScoreRequest
from harness.scorer import Scorer
from harness.snapshot import Snapshots, UnderWay
from harness.stops import StopRule
from harness.trunks import Trunks
from harness.watch import StateWatch

Score = tuple[float, bool]
Visit = Callable[[Sequence[int], int, Sequence[int], Tensor], None]
"""As `harness.reader.Visitor`, with the unit's nodes in place of a batch's rows."""


@dataclass(slots=True)
class _Batch:
    """Nodes of a unit to read together, each behind a row of a state."""

    nodes: list[int]
    behind: RecurrentState | None
    rows: list[int]


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
        }

    def run_scores(
        self, units: Iterable[Unit], requests: Sequence[ScoreRequest], known: Container[int] = ()
    ) -> Iterator[dict[int, Score]]:
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
        """Continue the prompts of the units that are in `requests`, and what `snapshots` have of them; `done(request,
        ids)` as soon as one is finished."""
        found = snapshots.load(self.model.device, requests) if snapshots else UnderWay()
        for number, ids in found.finished.items():
            done(number, ids)
        there = {*found.finished, *found.ids}
        known = {i for unit in units for i in unit.requests if i not in requests or i in there}
        prompts = (ready for unit in units for ready in self._prompts(unit, known))
        taken_up = [] if found.ready is None else [found.ready]
        decoder = Decoder(self.model, self.stop_rule, self.watch, self.limits.rows)
        under_way = snapshots.save_if_due if snapshots else None
        try:
            decoder.run(requests, chain(taken_up, prompts), done, self.on_tokens, under_way, found.ids)
        finally:
            if snapshots:
                snapshots.wait()

    def score_unit(
        self, unit: Unit, requests: Mapping[int, ScoreRequest], known: Container[int] = ()
    ) -> Iterator[dict[int, Score]]:
        """As `run_scores`, of one unit. Batches are those of the whole unit, so that a result does not depend on what
        is known, to the last bit; those that nobody needs are left out."""
        scorer = Scorer(self.model, dict(requests))

        def visit(nodes: Sequence[int], offset: int, lengths: Sequence[int], hidden: Tensor) -> None:
            scorer.visit([unit.nodes[node] for node in nodes], offset, lengths, hidden)

        for batch, _ in self._read(unit, visit, known):
            ending = [i for node in batch.nodes for i in unit.nodes[node].ending if i not in known]
            if ending:
                yield {index: scorer.result(index) for index in ending}

    def _prompts(self, unit: Unit, known: Container[int]) -> Iterator[Ready]:
        """The unit's prompts that are not `known`, a batch at a time, read when they are asked for. Batches are those
        of the whole unit, as in `score_unit`."""
        last: dict[int, Tensor] = {}

        def visit(nodes: Sequence[int], offset: int, lengths: Sequence[int], hidden: Tensor) -> None:
            for row, (node, length) in enumerate(zip(nodes, lengths, strict=True)):
                if offset + length == len(unit.nodes[node].tokens) and unit.nodes[node].ending:
                    last[node] = hidden[row, length - 1].clone()

        for batch, state in self._read(unit, visit, known):
            ends = [(row, node, i) for row, node in enumerate(batch.nodes) for i in unit.nodes[node].ending]
            pairs = [end for end in ends if end[2] not in known]
            if pairs and state is not None:
                with torch.inference_mode():
                    hidden = torch.stack([last[node] for _, node, _ in pairs])
                    ready = Ready([i for _, _, i in pairs], hidden, state.select([row for row, _, _ in pairs]))
                yield ready
            for node in batch.nodes:
                last.pop(node, None)

    def _read(
        self, unit: Unit, visit: Visit, known: Container[int] = ()
    ) -> Iterator[tuple[_Batch, RecurrentState | None]]:
        """Read a unit's nodes in batches, children right after their parents, and give each batch with its state;
        batches below which all requests are `known` are left out."""
        needed = [any(i not in known for i in node.ending) for node in unit.nodes]
        for index, node in reversed(list(enumerate(unit.nodes))):  # children first
            if needed[index] and node.parent is not None:
                needed[node.parent] = True
        if not any(needed):
            return
        before = self.reader.tokens_read
        trunk = self.trunks.state(unit.trunk, self.reader)
        self.on_tokens(self.reader.tokens_read - before)
        firsts = unit.firsts()
        stack = self._batches(unit, firsts, trunk, [0] * len(firsts))
        while stack:
            batch = stack.pop()
            if not any(needed[node] for node in batch.nodes):
                continue

            def visit_batch(
                rows: Sequence[int], offset: int, lengths: Sequence[int], hidden: Tensor, batch: _Batch = batch
            ) -> None:
                visit([batch.nodes[row] for row in rows], offset, lengths, hidden)
                self.on_tokens(sum(lengths))

            tokens = [unit.nodes[node].tokens for node in batch.nodes]
            keep = any(unit.nodes[node].keeps_state for node in batch.nodes)
            with torch.inference_mode():
                behind = None if batch.behind is None else batch.behind.select(batch.rows)
                state = self.reader.read(tokens, behind, visit_batch, keep=keep)
            yield batch, state
            children = [(child, row) for row, node in enumerate(batch.nodes) for child in unit.nodes[node].children]
            stack += self._batches(unit, [child for child, _ in children], state, [row for _, row in children])

    def _batches(
        self, unit: Unit, nodes: Sequence[int], behind: RecurrentState | None, rows: Sequence[int]
    ) -> list[_Batch]:
        """The batches of some nodes, the first one last: a stack."""
        packed = pack([len(unit.nodes[node].tokens) for node in nodes], self.limits)
        return [_Batch([nodes[i] for i in part], behind, [rows[i] for i in part]) for part in reversed(packed)]
