"""Synthetic tasks: every row is what its description says, and the answers are right by another way of counting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trials import SMALLEST

from gdn2.train.fields import RecipeError
from gdn2.train.synthetic.data import RowBatch, batches, draw
from gdn2.train.synthetic.fit import fit, has_converged, taking
from gdn2.train.synthetic.languages import MINUS, MODULUS, PLUS, TIMES, Language
from gdn2.train.synthetic.recall import Recall
from gdn2.train.synthetic.spec import Run, read_run
from gdn2.train.synthetic.trainee import Trainee, share_of_rate

RECALL = {"length": 16, "keys": 2, "rows": 40, "vocab_size": 32}
RUN: dict[str, Any] = {
    "model": "ours",
    "config": {**SMALLEST, "layers": "gdn2"},
    "train": [RECALL, {**RECALL, "writes": 4}],
    "tests": [RECALL],
    "training": {"steps": 6, "batch_rows": 16, "validate_every": 2, "validation_rows": 8},
    "learning_rate": 0.01,
    "seed": 1,
}


def run(**changes: Any) -> Run:
    return read_run({**json.loads(json.dumps(RUN)), **changes}, Path("runs.json"))


@pytest.mark.parametrize("writes", [0, 5, 12])
def test_every_key_is_written_and_asked_once_and_its_last_value_is_the_answer(writes: int) -> None:
    task = Recall(length=40, keys=5, writes=writes, rows=50, vocab_size=64)
    rows = task.draw(np.random.default_rng(0))
    for tokens, places, answers in zip(rows.tokens, rows.places, rows.answers, strict=True):
        written = tokens[: 2 * task.pairs].reshape(-1, 2)
        last = dict(written.tolist())
        assert len(last) == 5
        assert len(set(written[:, 1].tolist())) == task.pairs
        assert all(1 <= key < 32 <= value < 64 for key, value in written.tolist())
        assert (np.diff(places) > 0).all()
        assert sorted(tokens[places].tolist()) == sorted(last)
        assert [last[key] for key in tokens[places].tolist()] == answers.tolist()
        assert tokens[2 * task.pairs :].astype(bool).sum() == 5
        assert (places >= 2 * task.pairs).all()


def test_values_belong_to_no_key_and_near_questions_are_more_frequent() -> None:
    rows = Recall(length=512, keys=4, rows=2000).draw(np.random.default_rng(1))
    slots = (rows.places - 8) // 2
    halves = [int((slots < 16).sum()), int(((slots >= 16) & (slots < 32)).sum())]
    assert halves[0] > 4 * halves[1]
    assert len(np.unique(rows.answers)) > 2500


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"keys": 5}, "length must be at least"),
        ({"writes": 1}, "writes must be at least keys"),
        ({"vocab_size": 31}, "even"),
        ({"keys": 20, "length": 200}, "do not fit into a vocabulary"),
        ({"rows": 4}, "fewer than training.batch_rows"),
        ({"language": "latin"}, "has no field 'keys'"),
    ],
)
def test_rows_that_cannot_be_are_refused_by_name(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        run(train=[{**RECALL, **fields}])


def value_of(formula: list[int]) -> int:
    signs = {PLUS: "+", MINUS: "-", TIMES: "*"}
    return int(eval("".join(signs.get(token, str(token)) for token in formula))) % MODULUS


def test_formulas_are_worth_what_python_says_and_parity_is_the_sum_of_bits() -> None:
    rows = Language(language="arithmetic", length=15, shortest=3, rows=200).draw(np.random.default_rng(0))
    for tokens, (place,), (answer,) in zip(rows.tokens, rows.places, rows.answers, strict=True):
        assert value_of((tokens[: place + 1] - 1).tolist()) == answer - 1
        assert not tokens[place + 1 :].any()
    rows = Language(language="parity", length=12, shortest=3, rows=200).draw(np.random.default_rng(0))
    bits = np.where(rows.tokens > 0, rows.tokens - 1, 0)
    assert ((bits.sum(1) % 2) == rows.answers[:, 0] - 1).all()
    assert set(rows.places[:, 0].tolist()) == set(range(2, 12))


@pytest.mark.parametrize(("language", "places"), [("parity", [2, 3, 4, 5, 6, 7]), ("arithmetic", [2, 4, 6])])
def test_rows_asked_at_every_token_have_the_answer_of_each_beginning(language: str, places: list[int]) -> None:
    asked: dict[str, Any] = {"language": language, "asked": "every", "shortest": 3, "rows": 50}
    rows = Language(length=8, **asked).draw(np.random.default_rng(0))
    assert rows.places.tolist() == [places] * 50
    assert rows.tokens[:, : places[-1] + 1].all()
    for tokens, answers in zip((rows.tokens - 1).tolist(), (rows.answers - 1).tolist(), strict=True):
        starts = [tokens[: place + 1] for place in places]
        assert answers == [sum(start) % 2 if language == "parity" else value_of(start) for start in starts]


def test_rows_are_the_same_for_every_run_and_others_for_each_role() -> None:
    task = Recall(**RECALL)
    assert (draw(task, "train", 0).tokens == draw(task, "train", 0).tokens).all()
    assert (draw(task, "train", 0).tokens != draw(task, "test", 0).tokens).any()
    assert (draw(task, "train", 0).tokens != draw(task, "train", 1).tokens).any()


def test_a_pass_takes_every_whole_batch_once_in_an_order_of_the_seed() -> None:
    sizes = [40, 33]
    order = batches(run(), sizes)
    first = [next(order) for _ in range(4)]
    assert sorted(kind for kind, _ in first) == [0, 0, 1, 1]
    for kind in (0, 1):
        taken = np.concatenate([rows for which, rows in first if which == kind])
        assert len(set(taken.tolist())) == 32
    again = batches(run(seed=2), sizes)
    assert any((a[1] != b[1]).any() for a, b in zip(first, [next(again) for _ in range(4)], strict=True))


def test_an_identity_has_what_changes_a_result_and_no_name() -> None:
    assert run().identity == run(model="theirs").identity
    changes: tuple[dict[str, Any], ...] = (
        {"seed": 2},
        {"learning_rate": 0.02},
        {"tests": [{**RECALL, "rows": 41}]},
        {"config": {}},
    )
    assert len({run().identity, *(run(**change).identity for change in changes)}) == 5


def test_numbers_that_train_alike_are_one_identity_whole_or_not() -> None:
    whole = {**RUN["training"], "clip_norm": 1, "weight_decay": 0, "warmup": 0}
    points = {**RUN["training"], "clip_norm": 1.0, "weight_decay": 0.0, "warmup": 0.0}
    assert run(training=whole).identity == run(training=points).identity != run().identity


def test_the_rate_goes_up_in_a_line_and_down_to_nothing() -> None:
    spec = run(training={"steps": 100, "batch_rows": 16, "warmup": 0.1})
    shares = [share_of_rate(step, spec) for step in range(100)]
    assert shares[4] == pytest.approx(0.5)
    assert max(shares) == shares[9] == 1
    assert shares[-1] < 0.001


def test_a_run_leaves_its_curve_its_tests_and_the_same_result_again(tmp_path: Path) -> None:
    said: list[dict[str, Any]] = []
    results = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        fit(taking([run()]), tmp_path / folder, "cpu", said.append)
        results.append(json.loads((tmp_path / folder / f"{run().identity}.json").read_text()))
    first, second = results
    assert [entry["step"] for entry in first["curve"]] == [2, 4, 6]
    assert first["curve"] == second["curve"]
    assert first["tests"][0]["right"] == second["tests"][0]["right"]
    assert first["tests"][0]["accuracy"] == sum(first["tests"][0]["right"]) / (40 * 2)
    assert first["state_floats"] == [64]


def test_runs_that_train_together_have_the_results_that_they_have_alone(tmp_path: Path) -> None:
    runs = [run(seed=seed) for seed in (1, 2, 3)]
    for folder, together in (("alone", 1), ("together", 2)):
        (tmp_path / folder).mkdir()
        fit(taking(runs), tmp_path / folder, "cpu", lambda _: None, together)
    for one in runs:
        alone, other = (
            json.loads((tmp_path / folder / f"{one.identity}.json").read_text()) for folder in ("alone", "together")
        )
        assert (alone.pop("together"), other.pop("together")) == (1, 2)
        del alone["seconds"], other["seconds"]
        assert alone == other


def test_the_order_of_runs_with_other_rows_decides_nothing(tmp_path: Path) -> None:
    """Rows are kept for the next run that has the same, and let go for one that has others."""
    tests = [RECALL, {**RECALL, "keys": 3}]
    runs = [run(), run(train=[{**RECALL, "keys": 3}], tests=tests), run(seed=2), run(tests=tests)]
    for folder, order in (("there", runs), ("back", runs[::-1])):
        (tmp_path / folder).mkdir()
        fit(taking(order), tmp_path / folder, "cpu", lambda _: None)
    for one in runs:
        there, back = (
            json.loads((tmp_path / folder / f"{one.identity}.json").read_text()) for folder in ("there", "back")
        )
        del there["seconds"], back["seconds"]
        assert there == back


@pytest.mark.parametrize("broken_is", ["training", "validation", "memory"])
def test_a_loss_that_is_no_number_is_a_failed_run_and_the_next_one_goes_on(
    broken_is: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also that of validation alone, as behind a last step that spoils the weights; and memory that runs out."""
    broken, good = run(seed=7), run()
    mean_loss, evaluate = Trainee.mean_loss, Trainee.evaluate

    def asked(self: Trainee, batch: RowBatch) -> tuple[float, torch.Tensor]:
        if self.run is broken and broken_is == "memory":
            raise MemoryError("Unable to allocate 1 TiB")
        loss, right = evaluate(self, batch)
        return (float("nan") if self.run is broken and broken_is == "validation" else loss), right

    def mean(self: Trainee) -> float:
        return float("nan") if self.run is broken and broken_is == "training" else mean_loss(self)

    monkeypatch.setattr(Trainee, "mean_loss", mean)
    monkeypatch.setattr(Trainee, "evaluate", asked)
    fit(taking([broken, good]), tmp_path, "cpu", print)
    words = json.loads((tmp_path / f"{broken.identity}.json").read_text())["failed"]
    assert ("Unable to allocate" if broken_is == "memory" else "not finite at step 2") in words
    assert "tests" in json.loads((tmp_path / f"{good.identity}.json").read_text())


def test_a_test_that_overflows_is_wrong_answers_without_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer rows than those of validation may; a file then has no NaN, which is not JSON."""
    evaluate = Trainee.evaluate

    def overflows(self: Trainee, batch: RowBatch) -> tuple[float, torch.Tensor]:
        loss, right = evaluate(self, batch)
        return (float("nan"), torch.zeros_like(right)) if len(batch) == RECALL["rows"] else (loss, right)

    monkeypatch.setattr(Trainee, "evaluate", overflows)
    fit(taking([run()]), tmp_path, "cpu", print)
    text = (tmp_path / f"{run().identity}.json").read_text()
    assert (json.loads(text)["tests"][0]["accuracy"], json.loads(text)["tests"][0]["loss"]) == (0, None)
    assert "NaN" not in text


def test_convergence_is_a_flat_end() -> None:
    assert has_converged([5.0, 2.0, 1.0, 0.5, 0.499])
    assert not has_converged([5.0, 4.0, 3.0, 2.0, 1.0])
    assert not has_converged([0.1, 0.1])


def test_a_worker_refuses_what_it_cannot_use_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gdn2.train.synthetic.__main__ import main

    (tmp_path / "file").touch()
    monkeypatch.setattr("sys.stdin", ["no json\n"])
    for out, said in (("file", "cannot be used as a folder"), ("out", "standard input:1: not JSON")):
        assert main(["--out", str(tmp_path / out)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
