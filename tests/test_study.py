"""Studies: a file becomes a grid, runs are shared out once, and what is concluded is over seeds."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from studies import ROWS, finished, results_of, write

from gdn2.train.rivals.plan import shipped_rivals
from gdn2.train.synthetic.recall import Recall
from harness.cli.main import main
from harness.errors import UserError
from harness.show.study import print_study
from harness.study import workers
from harness.study.plan import load_study, shipped_studies
from harness.study.results import StudyResults, Wanted

FORMULAS = [{"language": "arithmetic", "length": 9, "rows": 20}]


def test_rates_are_chosen_by_the_first_seed_and_further_seeds_wait_for_that(tmp_path: Path) -> None:
    results = results_of(tmp_path)
    assert results.total == 8
    assert [(run.model, run.rate, run.seed) for run in results.to_do()] == [
        ("GDN-2", 0.01, 1), ("GDN-2", 0.001, 1), ("KDA", 0.01, 1), ("KDA", 0.001, 1),
    ]  # fmt: skip
    for run, loss in zip(results.to_do(), (2.0, 1.0, 1.0, 3.0), strict=True):
        results.found[run.identity] = finished(run, loss)
    assert (results.best_rate("GDN-2"), results.best_rate("KDA")) == (0.001, 0.01)
    assert [(run.model, run.rate, run.seed) for run in results.to_do()] == [
        ("GDN-2", 0.001, 2), ("GDN-2", 0.001, 3), ("KDA", 0.01, 2), ("KDA", 0.01, 3),
    ]  # fmt: skip


def test_a_rate_that_failed_is_not_chosen_and_is_counted(tmp_path: Path) -> None:
    results = results_of(tmp_path)
    for run in results.to_do():
        result = finished(run, 1.0)
        failed = {"identity": run.identity, "failed": "the loss is not finite"}
        results.found[run.identity] = failed if run.rate == 0.01 else result
    assert results.best_rate("KDA") == 0.001
    assert [words for _, words in results.failed()] == ["the loss is not finite"] * 2
    assert len(results.to_do()) == 4


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rates": []}, "rates must be a list"),
        ({"rates": [0.1, "x"]}, r"rates\[1\] must be a number"),
        ({"rates": ["1e-3"]}, "only behind a point: 1.0e-3"),
        ({"rates": [float("nan")]}, r"rates\[0\] must be a number above 0 to 10"),
        ({"rates": [0.1, 0.1]}, "a rate twice"),
        ({"models": {}}, "at least one model"),
        ({"models": {"a": {"layers": "gdn3"}}}, "there is no mixer 'gdn3'.*model a"),
        ({"models": {"a": {"layers": "kda"}, "b": {"layers": "kda"}}}, "models.b and models.a are the same"),
        ({"reference": "Mamba"}, "reference must be one of GDN-2, KDA"),
        ({"reference": ["KDA"]}, "reference must be one of GDN-2, KDA"),
        ({"models": {"a": {"layers": "kda", "dtype": "float16"}}}, "config.dtype does nothing in .*model a"),
        ({"models": {"a": {"layers": "kda", "bos_token_id": 1}}}, "config.bos_token_id does nothing in .*model a"),
        ({"models": {"a": 0}}, "models.a must be a mapping of fields, got 0"),
        ({"models": {"a": []}}, "models.a must be a mapping of fields, got a list"),
        ({"models": {" ": {}}}, "none by an empty name"),
        ({"about": {"a": 1}}, "about must be a text, got a mapping"),
        ({"name": "../x"}, "name must be letters"),
        ({"seeds": {"count": 1, "choose": 2}}, "seeds.choose must be at most"),
        ({"tests": [{**ROWS, "keys": 9}]}, r"tests\[0\]: length must be at least"),
        ({"tests": [ROWS, {**ROWS, "rows": 9}]}, r"tests\[1\] and tests\[0\] have one name in tables, 2 pairs @16"),
        ({"tests": [{**ROWS, "vocab_size": 64}]}, r"tests\[0\] has 64 tokens and the model a vocab_size of 32"),
        ({"train": [ROWS, {**ROWS, "vocab_size": 34}]}, r"train\[1\] has 34 tokens .*\(model GDN-2\)"),
        ({"base": {"vocab_size": 8}, "train": FORMULAS, "tests": FORMULAS}, r"train\[0\] has 9 tokens"),
        ({"more": 1}, "a study has no field 'more'"),
        (
            {"training": {"steps": 1, "precision": "float8"}},
            "training.precision must be one of float32, bfloat16",
        ),
    ],
)
def test_what_a_study_cannot_be_is_named(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        load_study(str(write(tmp_path, **changes)))


@pytest.mark.parametrize("name", shipped_studies())
def test_shipped_studies_can_be_trained_at_equal_state(name: str, tmp_path: Path) -> None:
    from gdn2 import GDN2Config
    from gdn2.matching import state_floats

    study = load_study(name)
    assert study.name == name
    sizes = [state_floats(GDN2Config(**fields)) for fields in study.models.values()]
    assert len({sum(layers) for layers in sizes if None not in layers}) == 1  # type: ignore[arg-type]
    seeds = study.seeds
    assert seeds.choose == 1
    assert seeds.count >= 3
    assert StudyResults(study, tmp_path, print).total == len(study.models) * (len(study.rates) + seeds.count - 1)


def test_rows_may_have_as_many_tokens_as_the_model_and_models_no_fields_of_their_own(tmp_path: Path) -> None:
    base = {"vocab_size": 9, "num_hidden_layers": 1}
    study = load_study(str(write(tmp_path, base=base, models={"GDN-2": None}, train=FORMULAS, tests=FORMULAS)))
    assert study.models == {"GDN-2": base}
    assert [study.rates, study.about] == [(0.01, 0.001), ""]


NOT_NEEDED = ("lm_eval", "datasets", "pandas", "matplotlib")


@pytest.fixture
def only_what_training_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that only trains: what evaluation needs cannot be imported, neither here nor by a worker."""
    for name in NOT_NEEDED:
        monkeypatch.setitem(sys.modules, name, None)
    folder = tmp_path / "start"
    folder.mkdir()
    code = f"import sys\nsys.modules.update(dict.fromkeys({NOT_NEEDED!r}))\n"
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *sys.path]))


@pytest.mark.usefixtures("only_what_training_needs")
def test_a_study_is_trained_told_and_not_trained_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From any folder, by names relative to it."""
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, rates=[0.01], seeds={"count": 1}, models={"GDN-2": {"layers": "gdn2"}})
    command = ["study", path.name, "--output", "out", "--devices", "cpu"]
    assert main([*command, "--table", str(tmp_path / "table.md")]) == 0
    assert "GDN-2" in capsys.readouterr().out
    assert "| GDN-2 |" in (tmp_path / "table.md").read_text(encoding="utf-8")
    (file,) = (tmp_path / "out" / "mini" / "runs").iterdir()
    before = file.read_bytes()
    assert main(command) == 0
    assert file.read_bytes() == before
    file.write_text("{", encoding="utf-8")
    assert main([*command, "--plan"]) == 0
    assert "the run is done again" in capsys.readouterr().err


def test_models_trained_on_text_are_a_study_with_tables_if_its_file_has_a_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []

    def train(arguments: list[str], *_: Any) -> int:
        asked.append(arguments)
        return 0

    monkeypatch.setattr("gdn2.train.rivals.__main__.main", train)
    own = tmp_path / "own.yaml"
    own.write_text(shipped_rivals()["text-4m"].read_text().replace("suite: rivals\n", ""), encoding="utf-8")
    out = str(tmp_path / "out")
    for name in ("text-4m", str(own)):
        assert main(["study", name, "--devices", "cpu", "--time-limit", "9m", "--output", out, "--plan"]) == 0
        wanted = [name, "--workers", "1", "--devices", "cpu", "--out", out, "--within", "9.0", "--plan"]
        assert asked.pop() == wanted
    for option in (["--table", "t.md"], ["--format", "markdown"]):
        assert main(["study", str(own), *option]) == 2
        assert f"{option[0]}: {own} has no field suite" in capsys.readouterr().err
    assert main(["study", "text-4m", "--reference", "kda"]) == 2
    assert "`compare --seeds` tests every pair" in capsys.readouterr().err
    assert not asked
    assert main(["study", "text-5m"]) == 2
    assert "text-4m" in capsys.readouterr().err


def test_a_worker_that_cannot_begin_stops_the_study_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 100)  # that no worker has
    path = write(tmp_path, rates=[0.01], seeds={"count": 1})
    assert main(["study", str(path), "--output", str(tmp_path / "out"), "--devices", "cuda:99"]) == 2
    assert "a worker on cuda:99 ended" in capsys.readouterr().err
    assert not list((tmp_path / "out" / "mini" / "runs").iterdir())


def test_a_study_ends_by_its_time_limit_and_what_is_done_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = {"steps": 10**6, "batch_rows": 16, "validate_every": 2, "validation_rows": 8}
    path = write(tmp_path, rates=[0.01], seeds={"count": 1}, training=many)
    command = ["study", str(path), "--output", str(tmp_path / "out"), "--devices", "cpu"]
    assert main([*command, "--time-limit", "1s"]) == 0
    assert "time is up with 2 runs still to do" in capsys.readouterr().err
    assert not list((tmp_path / "out" / "mini" / "runs").iterdir())
    assert main([*command, "--time-limit", "soon"]) == 2
    assert "'soon' is no time; say 520s, 9m or 2h" in capsys.readouterr().err


def test_no_run_is_begun_that_would_not_be_done_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crew = workers._Crew(results_of(tmp_path), ["cpu"], lambda *_: None, print, 60.0)
    begun: list[str] = []
    monkeypatch.setattr(workers, "_Worker", lambda device, *_: begun.append(device) or _Idle())  # type: ignore[func-returns-value]
    crew.longest = 61.0
    crew.share_out()
    assert not begun
    crew.longest = 30.0
    crew.share_out()
    assert begun == ["cpu"]


def test_a_gpu_that_is_named_twice_has_one_process_and_a_cpu_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[Any, ...]] = []
    monkeypatch.setattr(workers, "_Worker", lambda *asked: begun.append(asked[:2]) or _Idle())  # type: ignore[func-returns-value]
    for devices, processes in (
        (["cuda:0", "cuda:1"] * 2, [("cuda:0", 2), ("cuda:1", 2)]),
        (["cpu"] * 2, [("cpu", 1)] * 2),
    ):
        crew, begun[:] = workers._Crew(results_of(tmp_path), devices, lambda *_: None, print, None), []
        crew.share_out()
        assert begun == processes
        given = [run.identity for worker in crew.workers.values() for run in worker.runs.values()]
        assert len(set(given)) == len(given) == len(devices)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_number_of_a_table_is_cut_in_two_in_a_terminal(width: int, tmp_path: Path) -> None:
    results = results_of(tmp_path, models={"a model of a long name, in many words": {"layers": "gdn2"}}, rates=[0.01])
    for run in results.to_do():
        results.found[run.identity] = finished(run, 1.234, (0.987, 0.5))
    for run, loss in zip(results.to_do(), (1.0, 1.0), strict=True):
        results.found[run.identity] = finished(run, loss, (1.0, 0.25))
    out = io.StringIO()
    print_study(results, [Recall(**ROWS), Recall(**{**ROWS, "keys": 4})], Console(file=out, width=width))
    for whole in ("99.6 ± 1.9", "33.3 ± 35.9", "[1.234]", "4 pairs", "@16"):
        assert whole in out.getvalue(), out.getvalue()


@pytest.mark.parametrize("name", ["a [red]b[/red]", "a [/b]", "a | b", "[bold]"])
def test_a_name_is_shown_as_it_is(name: str, tmp_path: Path) -> None:
    results = results_of(tmp_path, models={name: {"layers": "gdn2"}}, rates=[0.01], seeds={"count": 1})
    for run in results.to_do():
        results.found[run.identity] = finished(run, 1.0)
    out = io.StringIO()
    print_study(results, [Recall(**ROWS), Recall(**{**ROWS, "keys": 4})], Console(file=out, width=80))
    assert out.getvalue().count(f"\n{name} ") == 2


class _Idle:
    """A worker that only takes runs."""

    def __init__(self) -> None:
        self.runs: dict[int, Wanted] = {}
        self.spoke = False

    def place_of(self, identity: object) -> int | None:
        return next((place for place, run in self.runs.items() if run.identity == identity), None)

    def give(self, place: int, run: Wanted) -> None:
        self.runs[place] = run


def test_a_result_that_is_gone_when_its_run_is_done_ends_the_study(tmp_path: Path) -> None:
    """The run would be done again without end."""
    results = results_of(tmp_path)
    run, worker = results.to_do()[0], _Idle()
    worker.give(0, run)
    crew = workers._Crew(results, ["cpu"], lambda *_: None, print, None)
    crew.lines.put((worker, json.dumps({"run": run.identity, "seconds": 1.0})))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"the result of GDN-2, rate 0\.01, seed 1 cannot be read back"):
        crew.listen()


def test_a_result_of_another_run_is_not_taken(tmp_path: Path) -> None:
    results = results_of(tmp_path)
    run = results.to_do()[0]
    (tmp_path / "out" / "runs").mkdir(parents=True)
    (tmp_path / "out" / "runs" / f"{run.identity}.json").write_text(json.dumps({"identity": "x", "tests": [1]}))
    said: list[str] = []
    assert not results.take_up(run, said.append)
    assert "another run" in said[0]
