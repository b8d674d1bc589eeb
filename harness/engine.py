"""Runs requests: what is known is not run, what they share is read once, what is finished is kept. Knows token ids
only, nothing of text, tasks or lm-eval.

`asked` knows what is wanted, `plan` cuts what `prefixes` finds into units, an executor runs these: `executor` in this
process, `workers` in others. `reader` reads prompts, `scorer` and `decoder` make results of what was read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from harness.asked import Asked
from harness.journal import Journal
from harness.plan import Limits, Unit, make_plan
from harness.progress import Meter, ProgressSink
from harness.requests import GenerateRequest, ScoreRequest

Score = tuple[float, bool]


class Executor(Protocol):
    """Runs units. `limits` are those of its plans, `on_tokens` is told of tokens that were read or generated."""

    limits: Limits
    on_tokens: Callable[[int], None]

    def run_scores(
        self, units: Iterable[Unit], requests: Sequence[ScoreRequest]
    ) -> Iterator[tuple[Unit, dict[int, Score]]]: ...

    def run_generations(
        self,
        units: Sequence[Unit],
        requests: Mapping[int, GenerateRequest],
        done: Callable[[int, list[int]], None],
    ) -> None: ...

    def describe(self) -> dict[str, Any]: ...


class Engine:
    """Scores and generates with an executor; results depend on neither limits, order, company nor interruptions.

    Args:
        executor: runs the units.
        progress: hears of finished requests and tokens.
        journal: keeps what is finished, and knows what was.

    Attributes:
        num_shared: tokens that requests had in common and that were not read again.
    """

    def __init__(self, executor: Executor, progress: ProgressSink, journal: Journal | None = None) -> None:
        self.executor = executor
        self.meter = Meter(progress)
        self.journal = journal or Journal()
        self.num_shared = 0
        executor.on_tokens = lambda tokens: self.meter.advance(0, tokens)

    def score(self, requests: Sequence[ScoreRequest], kind: str, done: Callable[[int, Score], None]) -> list[Score]:
        """For each request the sum of its targets' log-probabilities (nats), and whether each is the argmax.

        `done(index, result)` is called for each finished request.
        """
        asked = Asked(requests, self.journal, done)
        inputs = [request.input_ids for request in asked.distinct]
        firsts = [len(request.context_ids) - 1 for request in asked.distinct]
        plan = make_plan(inputs, firsts, self.executor.limits)
        self.num_shared += plan.num_shared
        self.meter.begin(kind, len(requests), plan.num_tokens)
        missing = []
        for unit in plan.units:
            # A unit is run whole or not at all: its batches, and with them the last bits, are those of a run that
            # was never interrupted.
            if all(index in asked.found for index in unit.requests):
                self.meter.advance(asked.finish({i: asked.found[i] for i in unit.requests}), 0, unit.num_tokens)
            else:
                missing.append(unit)
        for _, results in self.executor.run_scores(missing, asked.distinct):
            self.meter.advance(asked.finish(results), 0)
        self.meter.end()
        return asked.results()

    def generate(self, requests: Sequence[GenerateRequest], done: Callable[[int, list[int]], None]) -> list[list[int]]:
        """For each request the ids of its greedy continuation, the one that ended it included."""
        asked = Asked(requests, self.journal, done)
        missing = [i for i in range(len(asked.distinct)) if i not in asked.found]
        inputs = [asked.distinct[i].input_ids for i in missing]
        plan = make_plan(inputs, list(map(len, inputs)), self.executor.limits, go_on=True)
        self.num_shared += plan.num_shared
        tokens = plan.num_tokens + sum(request.max_tokens for request in asked.distinct)
        self.meter.begin("generating", len(requests), tokens)
        for index, ids in asked.found.items():
            self.meter.advance(asked.finish({index: ids}), 0, asked.distinct[index].max_tokens)

        def finished(position: int, ids: list[int]) -> None:
            index = missing[position]
            unused = asked.distinct[index].max_tokens - len(ids)
            self.meter.advance(asked.finish({index: ids}), 1, unused)

        wanted = {position: asked.distinct[i] for position, i in enumerate(missing)}
        self.executor.run_generations(plan.units, wanted, finished)
        self.meter.end()
        return asked.results()
