"""The engine against reading every request alone and whole: nothing about how requests are run shows in a result."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import mixer_config, small_model, small_tokenizer

from gdn2 import GDN2ForCausalLM
from gdn2.decoding import Decoding
from harness.engine import scorer as scoring
from harness.engine import snapshot
from harness.engine import units as planning
from harness.engine.decoder import Ready
from harness.engine.engine import Engine
from harness.engine.executor import LocalExecutor
from harness.engine.journal import Journal
from harness.engine.meter import NullProgress
from harness.engine.reader import Reader
from harness.engine.requests import GenerateRequest, ScoreRequest
from harness.engine.stops import StopRule
from harness.engine.units import Limits
from harness.errors import UserError

END = frozenset({0})


class OneByOne:
    """The specification: each request alone, in one forward without a state."""

    def __init__(self, model: GDN2ForCausalLM, stop_rule: StopRule) -> None:
        self.model, self.stop_rule = model, stop_rule

    @torch.inference_mode()
    def logits(self, ids: list[int]) -> torch.Tensor:
        return self.model(torch.tensor([ids]), use_cache=False).logits[0].double()  # type: ignore[no-any-return]

    def score(self, request: ScoreRequest) -> tuple[float, bool]:
        logits = self.logits(request.context_ids + request.target_ids)[len(request.context_ids) - 1 : -1]
        targets = torch.tensor(request.target_ids)
        logprobs = logits.log_softmax(-1).gather(1, targets[:, None])
        return float(logprobs.sum()), bool((logits.argmax(-1) == targets).all())

    def generate(self, request: GenerateRequest) -> list[int]:
        ids: list[int] = []
        while True:
            ids.append(int(self.logits(request.context_ids + ids)[-1].argmax()))
            if self.stop_rule.is_over(request, ids):
                return ids


class Counted(NullProgress):
    """Adds up what a run reports."""

    def __init__(self) -> None:
        self.announced = self.requests = self.tokens = self.saved = 0

    def begin(self, kind: str, requests: int, tokens: int) -> None:  # noqa: ARG002
        self.announced += tokens

    def advance(self, requests: int, tokens: int, saved: int = 0) -> None:
        self.requests += requests
        self.tokens += tokens
        self.saved += saved


MODELS = {"recurrent": ("gdn2", "mamba3"), "hybrid": ("gdn2", "swa"), "attention": ("attention", "attention")}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> GDN2ForCausalLM:
    """In float64, so that no two tokens come so close that rounding decides."""
    return small_model(mixer_config(*MODELS[request.param], initializer_range=0.2)).double()


@pytest.fixture(scope="module")
def stop_rule() -> StopRule:
    return StopRule(small_tokenizer())


def engine(model: GDN2ForCausalLM, stop_rule: StopRule, limits: Limits, progress: Counted | None = None) -> Engine:
    return Engine(LocalExecutor(model, limits, stop_rule), progress or Counted())


def reader_of(engine: Engine) -> Reader:
    assert isinstance(engine.executor, LocalExecutor)
    return engine.executor.reader


def contexts(rng: random.Random) -> list[list[int]]:
    """Texts that share beginnings: of nothing, of a template, of a long haystack."""
    template = [rng.randrange(1, 420) for _ in range(20)]
    haystacks = [template + [rng.randrange(1, 420) for _ in range(rng.randint(1, 90))] for _ in range(4)]
    drawn = [rng.choice(haystacks) + [rng.randrange(1, 420) for _ in range(rng.randint(0, 30))] for _ in range(7)]
    return [*drawn, [rng.randrange(420)], haystacks[0], haystacks[0], [rng.randrange(420) for _ in range(110)]]


def score_requests(seed: int) -> list[ScoreRequest]:
    rng = random.Random(seed)
    requests = [
        ScoreRequest(context, [rng.randrange(420) for _ in range(rng.randint(1, 20))])
        for context in contexts(rng)
        for _ in range(rng.choice((1, 1, 4)))
    ]
    nested = contexts(rng)[0] * 2
    ends = [1, 8, 40, len(nested)]
    requests += [ScoreRequest(nested[:a], nested[a:b]) for a, b in pairwise(ends)]
    return rng.sample([*requests, requests[0]], len(requests) + 1)


def generate_requests(seed: int, model: GDN2ForCausalLM) -> list[GenerateRequest]:
    rng = random.Random(seed)
    del model
    stops: list[tuple[str, ...]] = [(), ("e", "i"), ("a", "o", "t"), (" ", "n")]
    return [
        GenerateRequest(context, rng.choice((1, 6, 14)), END, rng.choice(stops))
        for context in contexts(rng)
        for _ in range(rng.choice((1, 1, 2)))
    ]


LIMITS = [
    Limits(tokens=8192, rows=64),
    Limits(tokens=64, rows=3),
    Limits(tokens=7, rows=1),
    Limits(tokens=300, rows=64, slots=700),
]


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("seed", [0])
def test_scores_are_those_of_each_request_alone(
    model: GDN2ForCausalLM, stop_rule: StopRule, seed: int, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "TRUNK_REQUESTS", 3)
    monkeypatch.setattr(scoring, "HEAD_ROWS", 5)
    requests, progress = score_requests(seed), Counted()
    alone = OneByOne(model, stop_rule)
    expected = [alone.score(request) for request in requests]
    found = engine(model, stop_rule, limits, progress).score(requests, "scoring", lambda *_: None)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours[0] == pytest.approx(theirs[0], abs=1e-9)
    assert progress.requests == len(requests)
    assert progress.announced == progress.tokens + progress.saved


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("seed", [2])
def test_generations_are_those_of_each_request_alone(
    model: GDN2ForCausalLM, stop_rule: StopRule, seed: int, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "TRUNK_REQUESTS", 3)
    requests, progress = generate_requests(seed, model), Counted()
    alone = OneByOne(model, stop_rule)
    expected = [alone.generate(request) for request in requests]
    assert len({tuple(ids) for ids in expected}) > 5
    assert any(1 < len(ids) < request.max_tokens for ids, request in zip(expected, requests, strict=True))
    found = engine(model, stop_rule, limits, progress).generate(requests, lambda *_: None)
    assert found == expected
    assert progress.requests == len(requests)
    assert progress.announced == progress.tokens + progress.saved


def test_texts_of_several_haystacks_behind_one_instruction_are_generated_as_alone(
    model: GDN2ForCausalLM, stop_rule: StopRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The instruction and each haystack are trunks, one behind the other, and no text leaves between them."""
    monkeypatch.setattr(planning, "TRUNK_REQUESTS", 3)
    rng, requests = random.Random(0), []
    for first in (1, 2):
        haystack = [7] * 40 + [first] + [rng.randrange(1, 420) for _ in range(35)]
        requests += [GenerateRequest([*haystack, 100 + i, *range(3 * i)], 6, END, ()) for i in range(4)]
    alone = OneByOne(model, stop_rule)
    found = engine(model, stop_rule, Limits(tokens=64, rows=3)).generate(requests, lambda *_: None)
    assert found == [alone.generate(request) for request in requests]


def test_each_result_is_told_once_and_as_it_is_finished(model: GDN2ForCausalLM, stop_rule: StopRule) -> None:
    told: dict[int, object] = {}

    def tell(index: int, result: object) -> None:
        assert index not in told
        told[index] = result

    ours = engine(model, stop_rule, LIMITS[3])
    scores = ours.score(score_requests(0), "scoring", tell)
    assert told == dict(enumerate(scores))
    told.clear()
    texts = ours.generate(generate_requests(0, model), tell)
    assert told == dict(enumerate(texts))


def test_what_is_shared_is_read_once(model: GDN2ForCausalLM, stop_rule: StopRule) -> None:
    """Four continuations of 20 tokens behind contexts of 300: 380 tokens a document and hardly one more."""
    rng = random.Random(0)
    requests = []
    for _ in range(6):
        context = [rng.randrange(420) for _ in range(300)]
        requests += [ScoreRequest(context, [rng.randrange(420) for _ in range(20)]) for _ in range(4)]
    ours = engine(model, stop_rule, Limits(tokens=2048, rows=16))
    ours.score(requests, "scoring", lambda *_: None)
    assert reader_of(ours).tokens_read <= 1.01 * 6 * 380


@pytest.mark.parametrize("fails", [1, 2])
def test_an_allocation_that_fails_costs_time_and_nothing_else(
    model: GDN2ForCausalLM, stop_rule: StopRule, fails: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th forward, and every later one of more than 100 tokens, runs out of memory."""
    requests, generations = score_requests(3), generate_requests(3, model)
    whole = engine(model, stop_rule, Limits(tokens=600, rows=12))
    expected = whole.score(requests, "scoring", lambda *_: None)
    texts = whole.generate(generations, lambda *_: None)
    forward: Callable[..., Any] = model.model.forward
    calls = 0

    def failing(input_ids: torch.Tensor, **rest: Any) -> object:
        nonlocal calls
        calls += 1
        if (calls >= fails and input_ids.numel() > 100) or (input_ids.shape[1] == 1 and len(input_ids) > 5):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(input_ids=input_ids, **rest)

    monkeypatch.setattr(model.model, "forward", failing)
    ours = engine(model, stop_rule, Limits(tokens=600, rows=12))
    found = ours.score(requests, "scoring", lambda *_: None)
    assert reader_of(ours).limits.tokens < 600
    for a, b in zip(found, expected, strict=True):
        assert a[1] == b[1]
        assert a[0] == pytest.approx(b[0], abs=1e-9)
    assert ours.generate(generations, lambda *_: None) == texts


def test_memory_that_never_suffices_is_an_error_with_the_way_out(
    model: GDN2ForCausalLM, stop_rule: StopRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(**_: Any) -> object:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(model.model, "forward", failing)
    with pytest.raises(UserError, match=r"out of memory on cpu with one row .* What is finished is kept"):
        engine(model, stop_rule, LIMITS[0]).score(score_requests(0), "scoring", lambda *_: None)


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    model: GDN2ForCausalLM, stop_rule: StopRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(**_: Any) -> object:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(model.model, "forward", failing)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        engine(model, stop_rule, LIMITS[0]).score(score_requests(0), "scoring", lambda *_: None)


def test_memory_that_fails_beside_a_step_is_an_error_with_the_way_out(
    model: GDN2ForCausalLM, stop_rule: StopRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 284.00 MiB")

    monkeypatch.setattr(Decoding, "arrange", failing)
    with pytest.raises(UserError, match=r"out of memory with 64 rows of 8192 .* smaller --batch-size \(say 32\)"):
        engine(model, stop_rule, LIMITS[0]).generate(generate_requests(2, model), lambda *_: None)


class Killed(Exception):
    """In place of the signal."""


@pytest.mark.parametrize("kind", ["score", "generate"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_resumed_call_gives_the_same_and_does_hardly_anything_twice(
    model: GDN2ForCausalLM,
    stop_rule: StopRule,
    kind: str,
    share: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshot, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(snapshot, "SHARE", 1e9)
    save = snapshot.Snapshots.save_if_due

    def save_at_once(self: snapshot.Snapshots, *what: Any) -> None:
        save(self, *what)
        self.wait()  # a slow disk would lose more

    monkeypatch.setattr(snapshot.Snapshots, "save_if_due", save_at_once)
    limits = Limits(tokens=128, rows=4)

    def run(stop_at: float, name: str) -> tuple[object, int]:
        ours = engine(model, stop_rule, limits)
        ours.journal = Journal(tmp_path / name, {})
        done = 0

        def count(tokens: int) -> None:
            nonlocal done
            done += tokens
            ours.meter.advance(0, tokens)
            if done >= stop_at:
                raise Killed

        ours.executor.on_tokens = count
        results: object = None
        with contextlib.suppress(Killed):
            if kind == "score":
                results = ours.score(score_requests(5), "scoring", lambda *_: None)
            else:
                results = ours.generate(generate_requests(5, model), lambda *_: None)
        ours.journal.close()
        return results, done

    expected, whole = run(float("inf"), "whole.jsonl")
    killed, before = run(share * whole, "journal.jsonl")
    assert killed is None
    found, after = run(float("inf"), "journal.jsonl")
    assert found == expected
    assert before + after <= whole + 2 * limits.tokens
    assert not list(tmp_path.glob("*under_way*"))


def test_what_is_under_way_of_another_model_or_damaged_is_not_taken_up(
    model: GDN2ForCausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.safetensors"
    ready = Ready.of([0], torch.zeros(1, 32), model.model.empty_state(1))
    monkeypatch.setattr(snapshot, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(snapshot, "SHARE", 1e9)
    mine = snapshot.Snapshots(path, "me", {0: "key", 1: "done"})
    mine.finished = {1: [7]}
    mine.save_if_due([ready], {0: [5]})
    mine.wait()
    cpu = torch.device("cpu")
    found = mine.load(cpu, {0, 1})
    assert (found.ids, found.finished) == ({0: [5]}, {1: [7]})
    assert found.ready is not None
    assert snapshot.Snapshots(path, "me", {3: "done", 4: "key"}).load(cpu, {3, 4}).ids == {4: [5]}
    nothing = snapshot.UnderWay()
    assert mine.load(cpu, set()) == nothing
    assert snapshot.Snapshots(path, "other", mine.keys).load(cpu, {0, 1}) == nothing
    path.write_bytes(path.read_bytes()[:-9])
    assert mine.load(cpu, {0, 1}) == nothing
    mine.clear()
    assert mine.load(cpu, {0, 1}) == nothing
    assert not list(tmp_path.iterdir())


def test_each_prompt_is_kept_once_before_it_goes_on(
    model: GDN2ForCausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(snapshot, "SHARE", 1e9)
    cpu, wanted = torch.device("cpu"), set(range(4))
    mine = snapshot.Snapshots(tmp_path / "x.safetensors", "me", {i: f"key{i}" for i in wanted})

    def rows(*numbers: int) -> Ready:
        hidden = torch.tensor(numbers, dtype=torch.float64)[:, None].expand(-1, 32)
        return Ready.of(list(numbers), hidden, model.model.empty_state(len(numbers)))

    def kept(parts: list[Ready], ids: dict[int, list[int]]) -> tuple[int, dict[int, float]]:
        mine.save_if_due(parts, ids)
        mine.wait()
        found = mine.load(cpu, wanted)
        assert found.ready is not None
        values = found.ready.hidden[:, 0].tolist()
        return len(list(tmp_path.iterdir())), dict(zip(found.ready.requests, values, strict=True))

    assert kept([rows(0, 1)], {}) == (1, {0: 0.0, 1: 1.0})
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert kept([rows(0, 1), rows(2)], {}) == (2, {0: 0.0, 1: 1.0, 2: 2.0})
    assert all(file.stat().st_mtime_ns == at for file, at in before.items())
    assert kept([rows(0, -1), rows(2, 3)], {0: [7]}) == (1, {0: 0.0, 2: 2.0, 3: 3.0})  # one file in place of all
    assert mine.load(cpu, wanted).ids == {0: [7], 2: [], 3: []}
    mine.clear()
    assert not list(tmp_path.iterdir())
