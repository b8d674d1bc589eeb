"""Rivals: one file becomes recipes that differ in model and seed only, trained in the time that there is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from trials import LINE, RECIPE

from basis.locks import alone_in
from gdn2.checkpoints.training import training_of
from gdn2.config import GDN2Config
from gdn2.matching import state_floats
from gdn2.model import GDN2ForCausalLM
from gdn2.train import tokenizer as tokenizer_module
from gdn2.train.__main__ import main as train
from gdn2.train.fields import RecipeError
from gdn2.train.prepared import prepare_into, prepared
from gdn2.train.recipe import load_recipe
from gdn2.train.rivals import __main__ as command
from gdn2.train.rivals.crew import ROOT, Crew, Ended
from gdn2.train.rivals.pace import Pace, finish, fitting_share, pace_of
from gdn2.train.rivals.plan import load_rivals


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tokenizer_module, "NUMBER_REPEATS", 20)
    recipe = {name: value for name, value in RECIPE.items() if name not in ("name", "seed")}
    recipe["data"] = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "heldout")}
    for name in ("train", "heldout"):
        (tmp_path / f"{name}.jsonl").write_text(LINE * 12)
    models = {"a": {"layers": "gdn2"}, "b": {"layers": "mamba2"}}
    return write(tmp_path, {"name": "few", "about": "Few.", "seeds": [1, 2], "models": models, "recipe": recipe})


def write(folder: Path, raw: dict[str, Any]) -> Path:
    path = folder / "few.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Runs are calls; what they were called with, without Python itself."""
    calls: list[list[str]] = []

    class Call:
        def __init__(self, arguments: list[str], **_: Any) -> None:
            calls.append(arguments[5:])
            self.status = train(arguments[5:])

        def wait(self, _: float | None = None) -> int:
            return self.status

    monkeypatch.setattr("gdn2.train.rivals.crew.subprocess.Popen", Call)
    return calls


@pytest.mark.parametrize(("name", "least", "most"), [("text-4m", 3.5e6, 4e6), ("text-20m", 15e6, 25e6)])
def test_shipped_rivals_are_equal_in_size_and_state(name: str, least: float, most: float) -> None:
    sizes, floats = [], []
    for recipe in load_rivals(name).recipes():
        config = GDN2Config(vocab_size=recipe.tokenizer.vocab_size, **recipe.model)
        with torch.device("meta"):
            sizes.append(sum(p.numel() for p in GDN2ForCausalLM(config).parameters()))
        floats.append(state_floats(config))
        assert {stage.wording for stage in recipe.stages} == {"own"}
    assert max(sizes) <= 1.01 * min(sizes)
    assert least < min(sizes) <= max(sizes) < most
    assert all(own == floats[0] for own in floats[:4])  # the hybrid and full attention are last of a seed
    assert floats == floats[:6] * (len(floats) // 6)  # of every seed


def test_every_model_has_its_first_seed_before_any_has_its_second(file: Path) -> None:
    assert [recipe.name for recipe in load_rivals(str(file)).recipes()] == ["a", "b", "a-seed2", "b-seed2"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--within", "0"], "--within must be a number of minutes above 0"),
        (["--within", "nan"], "--within must be"),
        (["--within", "inf"], "--within must be"),
        (["--devices", " , "], "names no device"),
        (["--devices", "cpu,gpu9"], "no device is called 'gpu9'"),
        (["--out", "FOLDER/few.yaml"], "few.yaml: cannot be used as a folder"),
        (["--out", "FOLDER/odd"], "odd/share.json: does not say which share"),
        (["--out", "FOLDER/broken"], "broken/share.json:1: not JSON"),
    ],
)
def test_options_that_cannot_be_followed_are_named_before_anything_is_trained(
    options: list[str], named: str, file: Path, tmp_path: Path, in_process: list[list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, text in (("odd", '{"rivals": "x", "share": 2}'), ("broken", '{"riv')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "share.json").write_text(text)
    options = [option.replace("FOLDER", str(tmp_path)) for option in options]
    assert command.main([str(file), "--out", str(tmp_path / "out"), "--devices", "cpu", *options]) == 2
    assert named in capsys.readouterr().err
    assert not in_process


def test_a_model_that_cannot_be_is_refused_before_any_is_trained(
    file: Path, tmp_path: Path, in_process: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, {**yaml.safe_load(file.read_text()), "models": {"a": {}, "b": {"layers": "gdn3"}}})
    for option in (["--plan"], []):
        assert command.main([str(file), "--out", str(tmp_path / "out"), "--devices", "cpu", *option]) == 2
        assert "there is no mixer 'gdn3'" in capsys.readouterr().err
    assert not in_process


def test_what_is_not_equal_is_said_and_a_plan_is_of_the_share(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = yaml.safe_load(file.read_text())
    models = {"a": {}, "wide": {"intermediate_size": 64}, "grows": {"layers": "attention", "attention_heads": 1}}
    raw["recipe"]["stages"][0]["steps"] = 8
    write(tmp_path, {**raw, "models": models})
    assert command.main([str(file), "--plan", "--share", "0.25"]) == 0
    said = capsys.readouterr().out
    assert "few: 6 runs of 2 steps" in said
    assert "not equal: parameters differ from those of a by more than 2%: wide (+" in said
    assert "not equal: state differs from that of a, 64 state floats: grows (grows)" in said
    write(tmp_path, {**raw, "models": {"a": {}, "b": {"rope_theta": 500.0}}})
    assert command.main([str(file), "--plan"]) == 0
    assert "not equal" not in capsys.readouterr().out


@pytest.mark.usefixtures("in_process")
def test_a_folder_of_rivals_has_one_process_at_a_time(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with alone_in(tmp_path / "out"):
        assert command.main([str(file), "--out", str(tmp_path / "out"), "--devices", "cpu"]) == 2
    assert "out: another process is at work in it" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["train", "heldout", "prepared"])
def test_what_all_runs_would_be_refused_for_is_said_once(
    missing: str, file: Path, tmp_path: Path, in_process: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(file), "--out", str(tmp_path / "out"), "--devices", "cpu"]
    if missing == "prepared":
        arguments += ["--prepared", str(tmp_path / "nowhere")]
    else:
        (tmp_path / f"{missing}.jsonl").unlink()
    assert command.main(arguments) == 2
    assert ("nowhere" if missing == "prepared" else f"{missing}.jsonl") in capsys.readouterr().err
    assert not in_process
    assert not (tmp_path / "out").exists()


def test_a_share_of_the_steps_can_be_asked_for(
    file: Path, tmp_path: Path, in_process: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(file), "--out", str(tmp_path / "out"), "--devices", "cpu", "--share", "0.5"]
    assert command.main(arguments) == 0
    assert len(in_process) == 4
    recipe = load_rivals(str(file)).recipes(0.5)[0]
    assert recipe.total_steps < load_rivals(str(file)).recipes()[0].total_steps
    assert recipe.about == "Few. `python -m gdn2.train.rivals few.yaml --share 0.5` trains all of them."
    assert f"{recipe.total_steps:,} steps each" in capsys.readouterr().out
    assert command.main([*arguments[:-1], "0.25"]) == 2
    assert "0.5 of the steps" in capsys.readouterr().err
    assert command.main([*arguments[:-1], "1.5"]) == 2
    assert "--share" in capsys.readouterr().err


def test_rivals_are_trained_once_and_seeds_are_of_one_training(
    file: Path, tmp_path: Path, in_process: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert command.main([str(file), "--out", str(out), "--devices", "cpu"]) == 0
    assert len(in_process) == 4
    trained = {name: training_of(out / "checkpoints" / name) for name in ("a", "a-seed2", "b", "b-seed2")}
    assert [by.seed for by in trained.values() if by] == [1, 2, 1, 2]
    assert trained["a"].recipe == trained["a-seed2"].recipe != trained["b"].recipe  # type: ignore[union-attr]
    assert command.main([str(file), "--out", str(out), "--devices", "cpu"]) == 0
    assert len(in_process) == 4
    assert "4 runs, 4 done" in capsys.readouterr().out
    write(tmp_path, {**yaml.safe_load(file.read_text()), "seeds": [3]})
    assert command.main([str(file), "--out", str(out), "--devices", "cpu"]) == 2
    assert "runs of another file" in capsys.readouterr().err


@pytest.mark.usefixtures("in_process")
def test_a_run_that_fails_is_counted_and_the_others_go_on(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "checkpoints").mkdir(parents=True)
    (tmp_path / "out" / "checkpoints" / "a-seed2").write_text("in the way")
    assert command.main([str(file), "--out", str(tmp_path / "out"), "--devices", "cpu", "--workers", "2"]) == 1
    assert "3 of 4 are done" in capsys.readouterr().out


def test_as_many_steps_are_taken_as_fit(
    file: Path, tmp_path: Path, in_process: list[list[str]], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    raw = yaml.safe_load(file.read_text())
    raw["recipe"]["stages"] = [{**raw["recipe"]["stages"][0], "steps": 8}]
    write(
        tmp_path, {**raw, "seeds": [1], "models": {"bad": {"intermediate_size": 1 << 24, "hidden_size": 4096}, "a": {}}}
    )
    monkeypatch.setattr(command, "fitting_share", lambda *_: 0.5)
    arguments = [str(file), "--out", str(tmp_path / "out"), "--devices", "cpu", "--within", "9"]
    assert command.main(arguments) == 1
    said = capsys.readouterr().out
    assert "50.0% of the steps fit" in said
    assert "trial: bad on cpu: status 2" in said
    assert "1 of 2 are done" in said  # one whose trial fails is counted, and keeps no other from training
    steps = [load_recipe(Path(call[0])).total_steps for call in in_process if "/a." in call[0]]
    assert steps == [1, 20, 4]
    monkeypatch.setattr(command, "fitting_share", lambda *_: pytest.fail("tried again"))
    assert command.main(arguments) == 1


def test_the_share_is_the_largest_that_ends_in_time() -> None:
    paces = [Pace(10, 100), Pace(10, 50), Pace(10, 200)]
    assert finish(paces, 3, 1.0) == 210
    assert finish(paces, 2, 0.5) == 10 + 25 + 10 + 100
    assert fitting_share(paces, 3, 1000) == 1.0
    assert fitting_share(paces, 3, 5) == 0.0
    assert finish(paces, 2, fitting_share(paces, 2, 100)) == pytest.approx(90, abs=1e-3)


def test_a_pace_is_of_each_stage_behind_its_first_steps(file: Path) -> None:
    raw = yaml.safe_load(file.read_text())
    stage = raw["recipe"]["stages"][0]
    raw["recipe"]["stages"] = [{**stage, "steps": 100}, {**stage, "steps": 50}]
    recipe = load_rivals(str(write(file.parent, raw))).recipes()[0]
    log = [{"seconds": seconds} for seconds in (30, 1, 9, 2)]
    assert pace_of(recipe, log, 60) == Pace(60 - 42, 100 * 0.1 + 50 * 0.2)


def test_a_run_is_interrupted_at_the_deadline(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert Crew(tmp_path, ["cpu"], None)._wait(process, deadline=0.0) != 0


def test_no_run_is_begun_behind_the_deadline(file: Path, tmp_path: Path, in_process: list[list[str]]) -> None:
    recipes = load_rivals(str(file)).recipes()
    ended, _ = Crew(tmp_path / "out", ["cpu"], None, deadline=0.0).train(recipes, lambda _: None)
    assert [run.last for run in ended] == ["time was up"] * 4
    assert all(run.status for run in ended)
    assert not in_process


def test_a_checkpoint_is_asked_behind_all_trainings_one_from_before_too(file: Path, tmp_path: Path) -> None:
    began: list[str] = []
    places: dict[bool, set[Path]] = {False: set(), True: set()}

    class Told(Crew):
        def _run(self, name: str, device: str, command: list[str], _: float | None, where: Path) -> Ended:
            began.append(name)
            places[name.endswith("asked")].add(where)
            status = int(name == "a-seed2")
            return Ended(name, device, 1.0, status or int(command == ["ask", "b"]), "")

    def then(checkpoint: Path, device: str) -> list[str] | None:
        assert device == "cpu"
        return None if checkpoint.name == "b-seed2" else ["ask", checkpoint.name]

    recipes = load_rivals(str(file)).recipes()
    told: list[Ended] = []
    trained, asked = Told(tmp_path, ["cpu"], None).train(recipes[1:], told.append, then, recipes[:1])
    assert began[:3] == ["b", "a-seed2", "b-seed2"]
    assert sorted(began[3:]) == ["a, asked", "b, asked"]
    assert [(run.name, run.status) for run in trained] == [("b", 0), ("a-seed2", 1), ("b-seed2", 0)]
    assert sorted((run.name, run.status) for run in asked) == [("a, asked", 0), ("b, asked", 1)]
    assert told[:3] == trained
    assert places == {False: {Path.cwd()}, True: {ROOT}}  # a text may be named relative to the caller's folder


@pytest.mark.parametrize(("said", "threads"), [("3", "3"), ("", "4")])
def test_a_run_has_its_share_of_the_cores_unless_its_threads_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, threads: str
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    command = ["sh", "-c", "echo $OMP_NUM_THREADS"]
    assert Crew(tmp_path, ["cpu", "cpu"], None)._run("a", "cpu", command, None, tmp_path).last == threads


def test_a_run_imports_this_package_and_nothing_that_lies_where_it_starts(tmp_path: Path) -> None:
    if sys.version_info >= (3, 11):  # older ones look where they start before anything else
        (tmp_path / "yaml.py").write_text("raise SystemExit('shadowed')")
    code = "import yaml, os, basis; print(os.getcwd(), basis.__file__)"
    ended = Crew(tmp_path, ["cpu"], None)._run("a", "cpu", [sys.executable, "-c", code], None, tmp_path)
    assert ended.last == f"{tmp_path} {ROOT / 'basis' / '__init__.py'}"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell that starts tests in the background has them ignore interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("told", ["2", "15", "1 import signal; signal.signal(15, 1);"])
def test_an_interrupt_reaches_what_runs_and_lets_go_of_what_waits(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], told: str
) -> None:
    number, _, deaf = told.partition(" ")
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def sleeper(*_: Any, **__: Any) -> subprocess.Popen[bytes]:
        started.append(popen([sys.executable, "-c", f"import time; {deaf} time.sleep(20)"]))
        os.kill(os.getpid(), int(number))  # to this process alone, as by a job's manager
        return started[-1]

    monkeypatch.setattr("gdn2.train.rivals.crew.subprocess.Popen", sleeper)
    monkeypatch.setattr("gdn2.train.rivals.crew.GRACE", 1.0)
    assert command.main([str(file), "--out", str(tmp_path / "out"), "--devices", "cpu"]) == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().err
    (process,) = started
    assert process.returncode
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": [1]}, "a file of rivals has no field 'seed'; did you mean 'seeds'"),
        ({"name": "../x"}, "name must be letters"),
        ({"about": ["x"]}, "about must be a text, got a list"),
        ({"models": {"a": {}, "a-seed2": {"layers": "kda"}}}, "two runs would be called a-seed2"),
        ({"models": {"a": {}, "b": {}}}, "models.b and models.a are the same"),
        ({"seeds": [1, 1]}, "seeds must be a list of different whole numbers"),
        ({"models": {}}, "models must be named"),
        ({"models": {"a": {"vocab_size": 8}}}, "model.vocab_size follows from the tokenizer"),
        ({"recipe": {"seed": 1}}, "recipe.seed follows from the file's own"),
    ],
)
def test_what_cannot_be_is_refused_by_name(file: Path, change: dict[str, Any], message: str) -> None:
    write(file.parent, {**yaml.safe_load(file.read_text()), **change})
    with pytest.raises(RecipeError, match=message):
        load_rivals(str(file))


def test_a_name_that_no_file_can_have_is_no_file_of_rivals() -> None:
    for name in ("x" * 300, "\0"):
        with pytest.raises(RecipeError, match="no file of rivals has this name"):
            load_rivals(name)


@pytest.mark.parametrize("same", [{}, {"layers": ["gdn2"]}, {"layers": "gdn2", "erase_range": 1}])
def test_one_model_in_two_wordings_is_one_model(
    file: Path, capsys: pytest.CaptureFixture[str], same: dict[str, Any]
) -> None:
    write(file.parent, {**yaml.safe_load(file.read_text()), "models": {"a": {"layers": "gdn2"}, "b": same}})
    assert command.main([str(file), "--plan"]) == 2
    assert "models.b and models.a are the same; remove one" in capsys.readouterr().err


def test_tokens_made_ahead_are_the_texts_and_only_for_its_tokenizer(file: Path, tmp_path: Path) -> None:
    recipe = load_rivals(str(file)).recipes()[0]
    corpus, ahead = prepare_into(recipe, tmp_path / "ahead"), tmp_path / "ahead"
    (tmp_path / "train.jsonl").unlink()
    tokenizer, again = prepared(recipe, ahead)
    assert again.fingerprint == corpus.fingerprint
    assert (again.key_words, again.sentences, again.documents) == (corpus.key_words, corpus.sentences, 12)
    assert tokenizer.eos_token_id == 0
    write(tmp_path, {**yaml.safe_load(file.read_text()), "models": {"a": {}}})
    other = json.loads(json.dumps(yaml.safe_load(file.read_text())))
    other["recipe"]["tokenizer"]["vocab_size"] = 310
    with pytest.raises(RecipeError, match="another tokenizer than this recipe's; make it again with --prepare"):
        prepared(load_rivals(str(write(tmp_path, other))).recipes()[0], ahead)
    about = json.loads((ahead / "corpus.json").read_text())
    smaller = tokenizer_module.train_tokenizer(["a"], 257, 1).backend_tokenizer.to_str()
    for name, content in (
        ("corpus.json", json.dumps({**about, "key_words": [1]})),
        ("corpus.json", json.dumps({**about, "documents": "x"})),
        ("corpus.json", "[" * 100_000),
        ("tokenizer/tokenizer.json", '{"version": "1.0"}'),
        ("tokenizer/tokenizer.json", smaller),
        ("tokenizer/tokenizer_config.json", "{}"),
        ("stream.npy", "no"),
    ):
        before = (ahead / name).read_bytes()
        (ahead / name).write_text(content)
        with pytest.raises(RecipeError, match="no tokens made ahead can be read"):
            prepared(recipe, ahead)
        (ahead / name).write_bytes(before)
    assert prepared(recipe, ahead)[1].documents == 12
