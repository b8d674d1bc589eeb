"""Units on several processes, devices or machines, by Ray (`pip install 'gdn2[ray]'`): one copy of the model a worker.

Workers pull units one after the other, so a slow one holds nobody up. A worker that dies loses nothing but the unit it
had, which another one gets. lm-eval sees one process; the journal is written by it alone.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import os
from collections import deque
from collections.abc import Callable, Container, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basis.signals import as_before
from harness.engine.requests import GenerateRequest, ScoreRequest
from harness.engine.snapshot import Snapshots
from harness.engine.units import Limits, Unit
from harness.engine.watch import joined_norms
from harness.errors import UserError
from harness.paths import ROOT

log = logging.getLogger(__name__)

DEATHS = 3  # of workers over one unit, before the unit is taken for the cause
DECODED = 128  # tokens of a prompt, for which a generation counts when jobs are made equal
Score = tuple[float, bool]


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """What a worker needs to load its model; paths must mean the same on every machine."""

    checkpoint: str
    tokenizer: str
    dtype: str
    device: str
    batch_size: int | None = None
    batch_tokens: int | None = None
    threads: int | None = None
    """Of a worker on a CPU; None: its share of the machine's cores."""


class Worker:
    """A model with its executor, in a process of its own."""

    def __init__(self, spec: WorkerSpec) -> None:
        import torch

        if spec.threads:
            torch.set_num_threads(spec.threads)
        from gdn2.checkpoints import load_checkpoint
        from harness.engine.executor import LocalExecutor
        from harness.engine.memory import limits_of
        from harness.engine.self_test import operator_self_test
        from harness.engine.stops import StopRule
        from tasks.text.tokenizers import load_tokenizer

        model = load_checkpoint(Path(spec.checkpoint), dtype=spec.dtype, device=spec.device)
        self._self_test = operator_self_test(model, spec.dtype)
        limits = limits_of(model, batch_size=spec.batch_size, tokens=spec.batch_tokens)
        self._executor = LocalExecutor(model, limits, StopRule(load_tokenizer(spec.tokenizer)))
        self._executor.on_tokens = self._count
        self._tokens = 0

    def ready(self) -> tuple[Limits, dict[str, Any]]:
        """What a step of this worker holds, and the self-test of the operator on its device."""
        return self._executor.limits, self._self_test

    def plan_by(self, limits: Limits) -> None:
        """Run units as they were planned, whatever this worker's own memory says."""
        self._executor.limits = self._executor.reader.limits = limits

    def score(
        self, unit: Unit, requests: dict[int, ScoreRequest], known: frozenset[int]
    ) -> tuple[dict[int, Score], int, dict[str, Any]]:
        """(results, tokens read, the executor's description) of a unit."""
        self._tokens = 0
        results: dict[int, Score] = {}
        for part in self._executor.score_unit(unit, requests, known):
            results.update(part)
        return results, self._tokens, self._executor.describe()

    def generate(
        self, units: list[Unit], requests: dict[int, GenerateRequest], snapshots: Snapshots | None
    ) -> tuple[dict[int, list[int]], int, dict[str, Any]]:
        """As `score`, of several units; goes on with what `snapshots` have of them."""
        self._tokens, found = 0, dict[int, list[int]]()
        if snapshots:
            snapshots.finished = found
        self._executor.run_generations(units, requests, found.__setitem__, snapshots)
        return found, self._tokens, self._executor.describe()

    def _count(self, tokens: int) -> None:
        self._tokens += tokens


@dataclass(slots=True)
class _Job:
    method: str
    arguments: tuple[Any, ...]
    deaths: int = 0


class RayExecutor:
    """Runs units on `workers` workers; Ray is started here, or joined where RAY_ADDRESS says.

    Raises:
        UserError: Ray is not installed, or has not the devices that the workers need, or a worker cannot load.
    """

    def __init__(self, spec: WorkerSpec, workers: int) -> None:
        self._ray, self._spec = _start_ray(workers, spec), spec
        self._free = [self._new_worker() for _ in range(workers)]
        self._descriptions: dict[int, dict[str, Any]] = {}
        try:
            found = self._ray.get([worker.ready.remote() for worker in self._free])
        except self._ray.exceptions.RayError as error:
            raise UserError(f"a worker cannot load {spec.checkpoint}: {_cause(error)}") from error
        slots = [each.slots for each, _ in found if each.slots is not None]
        self.limits = Limits(
            tokens=min(each.tokens for each, _ in found),
            rows=min(each.rows for each, _ in found),
            slots=min(slots, default=None),
        )
        self.self_test: dict[str, Any] = found[0][1]
        self._ray.get([worker.plan_by.remote(self.limits) for worker in self._free])
        self.on_tokens: Callable[[int], None] = lambda _: None
        self.deaths = 0

    def describe(self) -> dict[str, Any]:
        """For the record: as `LocalExecutor.describe`, the largest over all workers."""
        found = [item["largest_state"] for item in self._descriptions.values() if item["largest_state"]]
        return {
            "workers": len(self._free),
            "workers_lost": self.deaths,
            "batch_tokens": self.limits.tokens,
            "batch_rows": self.limits.rows,
            "largest_state": max(found, key=lambda item: item["norm"]) if found else None,
            "state_norms": joined_norms(item["state_norms"] for item in self._descriptions.values()),
        }

    def run_scores(
        self, units: Iterable[Unit], requests: Sequence[ScoreRequest], known: Container[int] = ()
    ) -> Generator[dict[int, Score], None, None]:
        """Results of the units' requests that are not `known`, a unit at a time, as soon as it is finished."""
        jobs = []
        for unit in units:
            there = frozenset(i for i in unit.requests if i in known)
            if len(there) < len(unit.requests):
                jobs.append(_Job("score", (unit, {i: requests[i] for i in unit.requests}, there)))
        yield from self._run(jobs)

    def run_generations(
        self,
        units: Sequence[Unit],
        requests: Mapping[int, GenerateRequest],
        done: Callable[[int, list[int]], None],
        snapshots: Snapshots | None = None,
    ) -> None:
        """Continue the prompts of the units that are in `requests`, with `done(request, ids)` for each finished one.

        It is called when a job is finished. Every worker keeps what it has under way in a file of its job, in a folder
        that all of them see.
        """
        jobs = []
        for part in _parts(units, self.limits.rows, len(self._free)):
            numbers = [i for unit in part for i in unit.requests if i in requests]
            if numbers:
                kept = snapshots.part([i for unit in part for i in unit.requests]) if snapshots else None
                jobs.append(_Job("generate", (part, {i: requests[i] for i in numbers}, kept)))
        with contextlib.closing(self._run(jobs)) as found:  # workers are free again at once, whatever happens
            for results in found:
                for index, ids in results.items():
                    done(index, ids)

    def close(self) -> None:
        """End the workers."""
        for worker in self._free:
            with contextlib.suppress(Exception):
                self._ray.kill(worker)

    def _run(self, jobs: Sequence[_Job]) -> Generator[Any, None, None]:
        """The results of each job, as they come."""
        waiting = deque(jobs)
        running: dict[Any, tuple[_Job, Any]] = {}
        try:
            while waiting or running:
                while waiting and self._free:
                    job, worker = waiting.popleft(), self._free.pop()
                    running[getattr(worker, job.method).remote(*job.arguments)] = (job, worker)
                (finished,), _ = self._ray.wait(list(running), num_returns=1)
                job, worker = running.pop(finished)
                try:
                    results, tokens, description = self._ray.get(finished)
                except self._ray.exceptions.RayActorError as error:
                    self._free.append(self._replaced())  # first: the call may end here, the next one needs them all
                    waiting.appendleft(self._mourned(job, error))
                    continue
                except self._ray.exceptions.RayTaskError as error:
                    self._free.append(worker)
                    raise _own_error(error) from error
                self._free.append(worker)
                self._descriptions[id(worker)] = description
                self.on_tokens(tokens)
                yield results
        finally:
            self._free += [worker for _, worker in running.values()]  # where somebody does not want the rest

    def _mourned(self, job: _Job, error: Exception) -> _Job:
        """The job of a worker that died, for another one."""
        self.deaths += 1
        job.deaths += 1
        log.warning("a worker died (%s); its unit goes to another one", _cause(error))
        if job.deaths >= DEATHS:
            raise UserError(
                f"{DEATHS} workers died over the same requests ({_cause(error)}); a smaller --batch-tokens may help. "
                "What is finished is kept"
            )
        return job

    def _replaced(self) -> Any:
        worker = self._new_worker()
        worker.plan_by.remote(self.limits)
        return worker

    def _new_worker(self) -> Any:
        on_gpu = self._spec.device.startswith("cuda")
        remote = self._ray.remote(num_gpus=int(on_gpu), num_cpus=self._spec.threads or 1, max_restarts=0)(Worker)
        return remote.remote(self._spec)


def _start_ray(workers: int, spec: WorkerSpec) -> Any:
    """Ray, running, with enough devices."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError("--workers needs Ray: pip install 'gdn2[ray]', or pip install ray") from error
    if not ray.is_initialized():
        with as_before():
            ray.init(
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(spec.threads or 1)}},
            )
    name = "GPU" if spec.device.startswith("cuda") else "CPU"
    needed = workers * (1 if name == "GPU" else spec.threads or 1)
    free = int(ray.available_resources().get(name, 0))  # a worker without one would be waited for without end
    if needed > free:
        raise UserError(f"--workers {workers} needs {needed} {name}s, Ray has {free} free; use fewer workers")
    return ray


def _parts(units: Sequence[Unit], rows: int, workers: int) -> list[list[Unit]]:
    """Units in jobs of about equal size.

    There are as few as hold at most about `rows` requests each, and as many for every worker. A job of one worker's
    rows ends together.
    """
    total = sum(len(unit.requests) for unit in units)
    jobs = workers * -(-total // (rows * workers))
    parts: list[list[Unit]] = [[] for _ in range(jobs)]
    smallest = [(0, job) for job in range(jobs)]  # a heap: with one row a job there are as many jobs as requests
    for unit in sorted(units, key=lambda unit: (-len(unit.requests), -unit.num_tokens)):
        size, job = smallest[0]
        parts[job].append(unit)
        heapq.heapreplace(smallest, (size + unit.num_tokens + len(unit.requests) * DECODED, job))
    return [part for part in parts if part]


def _own_error(error: Any) -> Exception:
    """What a worker raised, if the user can mend it; else what Ray makes of it."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, UserError) else error


def _cause(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
