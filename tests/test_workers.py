"""Workers give what one process gives, to the byte, and a worker that dies costs nothing but time."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import small_checkpoint

from gdn2.checkpoints import load_checkpoint
from harness.engine import journal, snapshot
from harness.engine.decoder import Ready
from harness.engine.engine import Engine
from harness.engine.executor import LocalExecutor
from harness.engine.journal import Journal
from harness.engine.meter import NullProgress
from harness.engine.requests import GenerateRequest, ScoreRequest
from harness.engine.snapshot import Snapshots
from harness.engine.stops import StopRule
from harness.engine.units import Limits, Unit, UnitNode, make_plan
from harness.engine.workers import DEATHS, RayExecutor, WorkerSpec, _parts
from harness.errors import UserError
from tasks.text.tokenizers import load_tokenizer

ray = pytest.importorskip("ray")

LIMITS = Limits(tokens=256, rows=4)
RNG = random.Random(0)
SCORES = [
    ScoreRequest([RNG.randrange(420) for _ in range(RNG.randint(20, 90))], [RNG.randrange(420) for _ in range(9)])
    for _ in range(40)
]
GENERATIONS = [GenerateRequest(request.context_ids, 12, frozenset({0}), ("e",)) for request in SCORES[:24]]

LONG = [GenerateRequest(request.context_ids, 90, frozenset({0})) for request in SCORES[:8]]
KEPT = 70  # tokens up to which a text is kept: some of LONG end before, most behind


class Total(NullProgress):
    """Adds up tokens."""

    tokens = 0

    def advance(self, requests: int, tokens: int, saved: int = 0) -> None:
        del requests, saved
        self.tokens += tokens


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("checkpoints") / "small")


@pytest.fixture(scope="module")
def crew(checkpoint: Path) -> Iterator[RayExecutor]:
    spec = WorkerSpec(
        checkpoint=str(checkpoint), tokenizer=str(checkpoint), dtype="float32", device="cpu", batch_size=4,
        batch_tokens=256, threads=1,
    )  # fmt: skip
    executor = RayExecutor(spec, 2)
    yield executor
    executor.close()
    ray.shutdown()


@pytest.fixture
def alone(checkpoint: Path) -> Iterator[Engine]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    stop_rule = StopRule(load_tokenizer(str(checkpoint)))
    yield Engine(LocalExecutor(load_checkpoint(checkpoint), LIMITS, stop_rule), NullProgress())
    torch.set_num_threads(threads)


def worker_processes() -> list[int]:
    """Process ids of our workers, and of no other process's."""
    parents, workers = {}, []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit():
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if (folder / "cmdline").read_bytes().startswith(b"ray::Worker"):
                    workers.append(int(folder.name))
        except OSError:
            continue

    def is_ours(process: int) -> bool:
        return process == os.getpid() or (process in parents and is_ours(parents[process]))

    return [worker for worker in workers if is_ours(worker)]


def test_two_workers_give_what_one_process_gives_to_the_byte(crew: RayExecutor, alone: Engine) -> None:
    assert crew.limits == LIMITS
    assert crew.self_test["passed"]
    ours = Engine(crew, NullProgress())
    assert ours.score(SCORES, "scoring", lambda *_: None) == alone.score(SCORES, "scoring", lambda *_: None)
    assert ours.generate(GENERATIONS, lambda *_: None) == alone.generate(GENERATIONS, lambda *_: None)
    assert crew.describe()["largest_state"]["norm"] > 0


def test_a_worker_that_is_killed_loses_nothing(crew: RayExecutor, alone: Engine) -> None:
    told: list[int] = []

    def kill_one(index: int, _: object) -> None:
        if not told:
            os.kill(worker_processes()[0], signal.SIGKILL)
        told.append(index)

    deaths = crew.deaths
    found = Engine(crew, NullProgress()).score(SCORES, "scoring", kill_one)
    assert found == alone.score(SCORES, "scoring", lambda *_: None)
    assert sorted(told) == list(range(len(SCORES)))
    assert crew.deaths == deaths + 1
    assert len(worker_processes()) == 2


def test_requests_that_kill_every_worker_are_an_error_and_not_an_endless_loop(crew: RayExecutor) -> None:
    class Poison(ScoreRequest):
        """Ends the process that unpacks it."""

        def __reduce__(self) -> tuple[Any, ...]:
            return os._exit, (1,)

    deaths = crew.deaths
    with pytest.raises(UserError, match=f"{DEATHS} workers died over the same requests"):
        Engine(crew, NullProgress()).score([Poison([1, 2], [3])], "scoring", lambda *_: None)
    assert crew.deaths == deaths + DEATHS
    assert len(crew._free) == 2


def test_what_a_worker_refuses_reaches_the_user(crew: RayExecutor) -> None:
    with pytest.raises(Exception, match="index out of range"):
        Engine(crew, NullProgress()).score([ScoreRequest([1, 9999], [3])], "scoring", lambda *_: None)
    assert Engine(crew, NullProgress()).score(SCORES[:2], "scoring", lambda *_: None)


def test_more_workers_than_cores_are_refused(crew: RayExecutor, checkpoint: Path) -> None:
    del crew  # Ray is running
    spec = WorkerSpec(checkpoint=str(checkpoint), tokenizer="", dtype="float32", device="cpu", threads=1)
    with pytest.raises(UserError, match=r"--workers 4096 needs 4096 CPUs, Ray has \d+ free; use fewer workers"):
        RayExecutor(spec, 4096)


def test_texts_of_workers_go_on_after_the_command_was_killed(
    crew: RayExecutor, alone: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command ends with the first job; what the workers have under way, or finished, is not done again."""

    class EveryStep(Snapshots):
        """Each step is on disk before the next one, and none behind the same token: a slow machine loses no more."""

        def part(self, numbers: list[int]) -> EveryStep:
            return EveryStep(*super().part(numbers).__reduce__()[1])

        def __reduce__(self) -> tuple[Any, ...]:
            return EveryStep, super().__reduce__()[1]

        def save_if_due(self, rows: list[Ready], ids: Mapping[int, list[int]]) -> None:
            if max(map(len, ids.values()), default=0) <= KEPT:
                super().save_if_due(rows, ids)
                self.wait()

    monkeypatch.setattr(journal, "Snapshots", EveryStep)
    monkeypatch.setattr(snapshot, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(snapshot, "SHARE", 1e9)
    sink = Total()

    def run(done: Callable[[int, list[int]], None]) -> list[list[int]]:
        ours = Engine(crew, sink, Journal(tmp_path / "journal.jsonl", {}))
        try:
            return ours.generate(LONG, done)
        finally:
            ours.journal.close()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    expected = alone.generate(LONG, lambda *_: None)
    with pytest.raises(KeyboardInterrupt) as interrupt:
        run(killed)
    assert interrupt.traceback  # holds what the call had; its workers are free nevertheless
    assert len(crew._free) == 2
    crew._ray.get([worker.ready.remote() for worker in crew._free])  # they have ended what they had
    assert len(list(tmp_path.glob("*under_way*"))) == 2  # one a job
    assert not list(tmp_path.glob("journal.under_way.safetensors"))
    before = sink.tokens
    assert run(lambda *_: None) == expected
    after = sink.tokens - before
    sink.tokens = 0
    Engine(crew, sink).generate(LONG, lambda *_: None)
    assert len(LONG) < after < 0.2 * sink.tokens  # the last token of a text counts, whoever made it
    assert not list(tmp_path.glob("*under_way*"))


def test_jobs_are_about_equal_and_as_few_as_the_rows_allow() -> None:
    inputs = [request.context_ids for request in SCORES]
    units = make_plan(inputs, list(map(len, inputs)), LIMITS, go_on=True).units
    for rows, workers, jobs in ((64, 2, 2), (20, 2, 2), (16, 2, 4), (10, 3, 6)):
        parts = _parts(units, rows, workers)
        assert len(parts) == jobs
        assert sorted(i for part in parts for unit in part for i in unit.requests) == list(range(len(SCORES)))
        sizes = [sum(unit.num_tokens for unit in part) for part in parts]
        assert max(sizes) - min(sizes) < 2 * LIMITS.tokens


def test_as_many_jobs_as_requests_take_no_quadratic_time() -> None:
    count = 20_000
    units = [Unit([UnitNode([1], 0, None, ending=[i])], [i]) for i in range(count)]
    started = time.process_time()
    assert len(_parts(units, 1, 2)) == count
    assert time.process_time() - started < 2  # seconds; looking at every job for every unit took four
