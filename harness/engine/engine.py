"""Runs requests: what is known is not run, what they share is read once, what is finished is kept.

Knows token ids only, nothing of text, tasks or lm-eval.

`asked` knows what is wanted, `plan` cuts what `prefixes` finds into units, an executor runs these: `executor` in this
process, `workers` in others. `reader` reads prompts, `scorer` and `decoder` make results of what was read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Generator, Iterable, Mapping, Sequence
from typing import Any, Protocol

from harness.engine.accounts import Accounts
from harness.engine.asked import Asked
from harness.engine.journal import Journal
from harness.engine.memory import explained
from harness.engine.meter import Meter, ProgressSink
from harness.engine.requests import GenerateRequest, ScoreRequest
from harness.engine.snapshot import Snapshots
from harness.engine.units import Limits, Unit, make_plan

Score = tuple[float, bool]


class Executor(Protocol):
    """Runs units. `limits` are those of its plans, `on_tokens` is told of tokens that were read or generated."""

    limits: Limits
    on_tokens: Callable[[int], None]

    def run_scores(
        self, units: Iterable[Unit], requests: Sequence[ScoreRequest], known: Container[int] = ()
    ) -> Generator[dict[int, Score], None, None]:
        """Score the requests that end in some units and are not `known`, some at a time, by their numbers."""
        ...

    def run_generations(
        self,
        units: Sequence[Unit],
        requests: Mapping[int, GenerateRequest],
        done: Callable[[int, list[int]], None],
        snapshots: Snapshots | None = None,
    ) -> None:
        """Continue the requests of some units; `done(request, ids)` is called for each one that is finished."""
        ...

    def describe(self) -> dict[str, Any]:
        """What a record says of it: device, backend, workers."""
        ...


class Engine:
    """Scores and generates with an executor; results depend on neither limits, order, company nor interruptions.

    Args:
        executor: runs the units.
        progress: hears of finished requests and tokens.
        journal: keeps what is finished, and knows what was.
    """

    def __init__(self, executor: Executor, progress: ProgressSink, journal: Journal | None = None) -> None:
        self.executor = executor
        self.meter = Meter(progress)
        self.journal = Journal() if journal is None else journal  # an empty one counts as false
        executor.on_tokens = lambda tokens: self.meter.advance(0, tokens)

    def score(
        self,
        requests: Sequence[ScoreRequest],
        kind: str,
        done: Callable[[int, Score], None],
        accounts: Accounts | None = None,
        journal: Journal | None = None,
    ) -> list[Score]:
        """Score targets behind their contexts.

        Args:
            requests: token ids of contexts and targets.
            kind: what the progress calls it.
            done: called with the index and the result of each finished request.
            accounts: charged with what each task costs, if anybody asks.
            journal: keeps what is finished, and knows what was; by default the engine's own.

        Returns:
            For each request the sum of its targets' log-probabilities in nats, and whether each target is the argmax.
        """
        journal = self.journal if journal is None else journal
        asked, accounts = Asked(requests, journal, done), Accounts() if accounts is None else accounts
        inputs = [request.input_ids for request in asked.distinct]
        firsts = [len(request.context_ids) - 1 for request in asked.distinct]
        plan = make_plan(inputs, firsts, self.executor.limits)
        accounts.charge_reading(asked, plan)
        self.meter.begin(kind, len(requests), plan.num_tokens)
        self.meter.advance(asked.finish(asked.found), 0)
        scores = self.executor.run_scores(plan.units, asked.distinct, asked.found)
        with (
            explained(self.executor.limits.within(max(map(len, inputs), default=0))),
            contextlib.closing(scores) as found,
        ):
            for results in found:
                self.meter.advance(asked.finish(results), 0)
        self.meter.end()
        return asked.results()

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        done: Callable[[int, list[int]], None],
        accounts: Accounts | None = None,
        journal: Journal | None = None,
    ) -> list[list[int]]:
        """Continue contexts greedily.

        Args:
            requests: token ids of contexts, and when their continuations end.
            done: called with the index and the ids of each finished request.
            accounts: charged with what each task costs, if anybody asks.
            journal: keeps what is finished, and knows what was; by default the engine's own.

        Returns:
            For each request the ids of its continuation, the one that ended it included.
        """
        journal = self.journal if journal is None else journal
        asked, accounts = Asked(requests, journal, done), Accounts() if accounts is None else accounts
        known: dict[int, list[int]] = {i: [] for i, request in enumerate(asked.distinct) if request.max_tokens == 0}
        known.update(asked.found)
        inputs = [request.input_ids for request in asked.distinct]
        plan = make_plan(inputs, list(map(len, inputs)), self.executor.limits, go_on=True)
        accounts.charge_reading(asked, plan)
        tokens = plan.num_tokens + sum(request.max_tokens for request in asked.distinct)
        self.meter.begin("generating", len(requests), tokens)

        def finished(index: int, ids: list[int]) -> None:
            first = asked.askers(index)[0]
            accounts[first.task].tokens += len(ids)
            self.meter.advance(asked.finish({index: ids}), len(ids) > 0, first.max_tokens - len(ids))

        for index, ids in known.items():
            accounts[asked.askers(index)[0].task].tokens += len(ids)
            self.meter.advance(asked.finish({index: ids}), 0, asked.distinct[index].max_tokens)
        left = {i: request for i, request in enumerate(asked.distinct) if i not in known}
        snapshots = journal.snapshots(dict(enumerate(asked.keys)))
        with explained(self.executor.limits.within(max(map(len, inputs), default=0))):
            self.executor.run_generations(plan.units, left, finished, snapshots)
        if snapshots:
            snapshots.clear()
        self.meter.end()
        return asked.results()
