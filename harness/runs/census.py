"""What a run will ask for, counted before it: requests, tokens, what is shared, what is cut.

Needs a tokenizer and a configuration, no weights and no GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdn2.config import GDN2Config
from harness.engine.accounts import Accounts
from harness.engine.asked import Asked
from harness.engine.journal import Journal
from harness.engine.requests import GenerateRequest, ScoreRequest
from harness.engine.units import Limits, make_plan
from harness.lm.evaluate import LoadedTasks, evaluate_tasks, quiet_lm_eval
from harness.lm.terms import Terms
from harness.lm.text import TextModel
from harness.runs.resolve import ResolvedRun, label
from harness.runs.together import groups


@dataclass(slots=True)
class TaskCensus:
    """What one task asks for.

    Attributes:
        prompt_tokens: of all requests, as often as they are asked.
        shared_tokens: those of them that are not read again.
        generated_tokens: the most that are generated.
        longest: tokens of the longest request, with what it generates.
        truncated: requests that lose their beginning.
    """

    name: str
    requests: int = 0
    prompt_tokens: int = 0
    shared_tokens: int = 0
    generated_tokens: int = 0
    longest: int = 0
    truncated: int = 0

    @property
    def tokens(self) -> int:
        """The most that the model reads and generates."""
        return self.prompt_tokens - self.shared_tokens + self.generated_tokens


class Counting:
    """Counts requests in place of running them, and answers with nothing."""

    def __init__(self, tasks: Mapping[str, TaskCensus]) -> None:
        self.tasks = tasks

    def score(
        self,
        requests: Sequence[ScoreRequest],
        kind: str,
        done: Callable[[int, tuple[float, bool]], None],
        accounts: Accounts,
        journal: Journal | None,
    ) -> list[tuple[float, bool]]:
        """Count; every score is -1 nat."""
        del kind, journal
        self._count(requests, accounts)
        for index in range(len(requests)):
            done(index, (-1.0, False))
        return [(-1.0, False)] * len(requests)

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        done: Callable[[int, list[int]], None],
        accounts: Accounts,
        journal: Journal | None,
    ) -> list[list[int]]:
        """Count; every continuation is empty."""
        del journal
        self._count(requests, accounts)
        for index, request in enumerate(requests):
            task = self.tasks[request.task]
            task.longest = max(task.longest, len(request.context_ids) + request.max_tokens)
            done(index, [])
        return [[]] * len(requests)

    def _count(self, requests: Sequence[ScoreRequest] | Sequence[GenerateRequest], accounts: Accounts) -> None:
        asked: Asked[Any] = Asked(requests, Journal(), lambda *_: None)
        inputs = [request.input_ids for request in asked.distinct]
        accounts.charge_reading(asked, make_plan(inputs, list(map(len, inputs)), Limits()))
        for request in asked.distinct:
            self.tasks[request.task].generated_tokens += getattr(request, "max_tokens", 0)
        for request in requests:
            task, size = self.tasks[request.task], len(request.input_ids)
            task.requests += 1
            task.prompt_tokens += size
            task.longest = max(task.longest, size)


def count(run: ResolvedRun, config: GDN2Config, told: Callable[[str], Any]) -> list[TaskCensus]:
    """Count what each task of a run asks for.

    Args:
        run: its checkpoint need not be loaded.
        config: the checkpoint's.
        told: hears the name of the task that is being counted.

    Raises:
        UserError, TaskError: what a run would stop at: tokenizer, lengths, data.
    """
    quiet_lm_eval()
    found = {task.lm_eval_name: TaskCensus(label(task)) for task in run.tasks}
    loaded = LoadedTasks([task.config for task in run.tasks], run.metadata)
    told("what tasks share")
    for members in groups([loaded.texts(i) for i in range(len(run.tasks))]):
        tasks = [run.tasks[i] for i in members]
        told(", ".join(map(label, tasks)))
        model = TextModel(config, run.tokenizer, run.context_prefix, run.options.max_length)
        model.engine = Counting(found)
        own = config.max_position_embeddings
        terms = {task.lm_eval_name: Terms(max_length=run.max_length_of(task, own)) for task in tasks}
        with model.under(terms) as measures:
            evaluate_tasks(model, loaded.take(members))
        for task in tasks:
            found[task.lm_eval_name].truncated = measures.truncated[task.lm_eval_name]
            found[task.lm_eval_name].shared_tokens = measures.accounts[task.lm_eval_name].shared
    return list(found.values())


def newest_rate(results: Sequence[Path], checkpoint_sha256: str, device: str) -> tuple[float, str] | None:
    """(tokens a second, the run it comes from) of the newest record of the same checkpoint on the same device."""
    from harness.records.store import find_records

    records = [record for _, record in find_records([folder for folder in results if folder.is_dir()], lambda _: None)]
    fitting = [
        record
        for record in records
        if record.model.checkpoint_sha256 == checkpoint_sha256 and record.model.device == device
    ]
    for record in sorted(fitting, key=lambda record: record.started, reverse=True):
        seconds = sum(cell.seconds or 0 for cell in record.cells)
        tokens = sum(cell.tokens or 0 for cell in record.cells)
        if seconds > 0 and tokens > 0:
            return tokens / seconds, record.run_id
    return None
