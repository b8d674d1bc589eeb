"""What a study takes from its folder: whole results of its own runs, and nobody else at work there."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from errno import EACCES
from pathlib import Path
from typing import Any

import pytest
from studies import STUDY, finished, results_of, write

from basis.locks import alone_in
from harness.cli.main import main
from harness.errors import UserError
from harness.show.study import notes
from harness.study.results import StudyResults, Wanted


def put(results: StudyResults, run: Wanted, content: object) -> None:
    results.folder.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (results.folder / f"{run.identity}.json").write_bytes(data)


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    """A whole result with one thing wrong."""

    def make(result: dict[str, Any]) -> object:
        result = copy.deepcopy(result)
        change(result)
        return result

    return make


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda _: b"", "not JSON"),
        (lambda whole: json.dumps(whole).encode()[:90], "not JSON"),
        (lambda _: b"\0" * 40, "not JSON"),
        (lambda _: b"\xff", "not UTF-8"),
        (lambda _: b"[" * 100_000, "nested too deeply"),
        (lambda _: [1], "of another run"),
        (changed(lambda whole: whole.update(identity="x")), "of another run"),
        (lambda whole: {"identity": whole["identity"], "failed": None}, "why the run failed"),
        (changed(lambda whole: whole.update(curve=[])), "curve"),
        (changed(lambda whole: whole.update(curve=[{"validation_loss": float("nan")}])), "curve"),
        (changed(lambda whole: whole.update(curve=[{"validation_loss": None}])), "curve"),
        (changed(lambda whole: whole.update(tests=[1])), "tests"),
        (changed(lambda whole: whole["tests"].pop()), "tests"),
        (changed(lambda whole: whole["tests"][0].update(label="other")), "tests"),
        (changed(lambda whole: whole["tests"][0].update(accuracy=float("nan"))), "tests"),
        (changed(lambda whole: whole["tests"][0].update(accuracy="1")), "tests"),
        (changed(lambda whole: whole["tests"][0].update(accuracy=2)), "tests"),
        (changed(lambda whole: whole.pop("parameters")), "parameters"),
        (changed(lambda whole: whole.update(seconds=None)), "seconds"),
        (changed(lambda whole: whole.update(together="2")), "together"),
    ],
)
def test_a_result_that_is_not_whole_is_not_taken(
    tmp_path: Path, damage: Callable[[dict[str, Any]], object], said: str
) -> None:
    results, heard = results_of(tmp_path), list[str]()
    run = results.to_do()[0]
    put(results, run, finished(run, 1.0))
    assert results.take_up(run, heard.append)
    assert not heard
    put(results, run, damage(finished(run, 1.0)))
    again = StudyResults(results.study, results.folder.parent, heard.append)
    assert not again.found
    assert run.identity in heard[0]
    assert said in heard[0]
    assert "the run is done again" in heard[0]


@pytest.mark.parametrize("rates", [[0.01, 0.001, 0.1], [0.1, 0.01, 0.001]])
def test_of_rates_that_are_equally_good_the_lowest_is_taken_in_any_order(tmp_path: Path, rates: list[float]) -> None:
    results = results_of(tmp_path, rates=rates)
    for run in results.to_do():
        results.found[run.identity] = finished(run, 2.0 if run.rate == 0.1 else 0.0)
    assert results.best_rate("KDA") == 0.001


def test_a_rate_added_to_a_finished_study_is_gone_through_with(tmp_path: Path) -> None:
    """Further seeds at the rate that was best before are no longer asked for, and do not count as done."""
    results = results_of(tmp_path, models={"KDA": {"layers": "kda"}}, rates=[0.01])
    while to_do := results.to_do():
        put(results, to_do[0], finished(to_do[0], 1.0))
        results.take_up(to_do[0], pytest.fail)
    assert (results.done, results.total) == (3, 3)
    more = results_of(tmp_path, models={"KDA": {"layers": "kda"}}, rates=[0.01, 0.1])
    assert (more.done, more.total, len(more.to_do())) == (1, 4, 1)
    (run,) = more.to_do()
    more.found[run.identity] = finished(run, 0.5)
    assert more.best_rate("KDA") == 0.1
    assert (more.done, more.total) == (2, 4)
    assert [(run.rate, run.seed) for run in more.to_do()] == [(0.1, 2), (0.1, 3)]
    assert "2 of 4 runs are done; the tables have what there is." in notes(more, [])


def test_a_model_that_fails_at_every_rate_ends_the_study_and_is_not_called_untrained(tmp_path: Path) -> None:
    results = results_of(tmp_path, seeds={"count": 2, "choose": 1})
    assert results.total == 6
    while to_do := results.to_do():
        failed = {"identity": to_do[0].identity, "failed": "the loss is not finite"}
        results.found[to_do[0].identity] = failed if to_do[0].model == "KDA" else finished(to_do[0], 1.0)
    assert results.has_failed("KDA")
    assert not results.has_failed("GDN-2")
    assert (results.done, results.total) == (5, 5)
    said = notes(results, [])
    assert "Failed at every rate: KDA." in said
    assert not [line for line in said if "Not trained yet" in line or "runs are done" in line]


def test_a_failure_for_which_there_was_no_time_is_shown_still(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = results_of(tmp_path, rates=[0.01], seeds={"count": 1})
    for run in results.to_do():
        put(results, run, {"identity": run.identity, "failed": "lost power"})
    done: list[int] = []
    monkeypatch.setattr("harness.study.workers.work", lambda results, *_: done.append(len(results.to_do())))
    (tmp_path / "out").rename(tmp_path / "mini")
    assert main(["study", str(tmp_path / "study.yaml"), "--output", str(tmp_path), "--devices", "cpu", "--retry"]) == 1
    assert done == [2]
    assert capsys.readouterr().out.count("failed: lost power") == 2


def test_a_folder_has_one_process_at_a_time_and_is_free_afterwards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["study", str(write(tmp_path)), "--output", str(tmp_path / "out"), "--devices", "cpu"]
    with alone_in(tmp_path / "out" / "mini" / "runs"):
        assert main(command) == 2
        assert "mini/runs: another process is at work in it" in capsys.readouterr().err
        assert main([*command, "--plan"]) == 0
    with alone_in(tmp_path / "out" / "mini" / "runs"):
        assert not list((tmp_path / "out" / "mini" / "runs").iterdir())


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nothing", "runs"])
def test_a_folder_that_cannot_be_used_is_named(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "runs" / "mini").mkdir(parents=True)
    (tmp_path / "runs" / "mini" / "runs").write_text("precious")
    assert main(["study", str(write(tmp_path)), "--output", str(tmp_path / place), "--devices", "cpu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be used as a folder" in line
    assert place in line


def test_a_folder_that_is_read_only_is_named_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuses(_: Path) -> None:
        raise PermissionError(EACCES, "Permission denied")

    monkeypatch.setattr("harness.records.store.try_writing", refuses)
    monkeypatch.setattr("harness.study.workers._Crew", lambda *_: pytest.fail("trained"))
    assert main(["study", str(write(tmp_path)), "--output", str(tmp_path / "out"), "--devices", "cpu"]) == 2
    assert (
        "mini/runs: cannot write there (Permission denied); choose another folder with --output"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("devices", " , ", "names no device"),
        ("devices", "cpu,meta", "'meta': no such device"),
        ("devices", "cpu,cuda:99", "--devices cuda:99: this machine has no such device; there is cpu"),
        ("reference", "Mamba", "--reference must be one of GDN-2, KDA"),
        ("workers", "0", "--workers must be at least 1"),
        ("workers", str(10**12), "and at most 4096"),
        ("time-limit", "10001h", "'10001h' is over 10000h"),
        ("time-limit", "9" * 400, "is over 10000h"),
        ("table", "nowhere/table.md", "--table nowhere/table.md: cannot be written (No such file or directory)"),
        ("table", ".", "cannot be written (Is a directory)"),
        ("table", "/proc/self/fdinfo/table.md", "cannot be written"),
    ],
)
def test_what_no_study_can_be_asked_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, message: str
) -> None:
    assert main(["study", str(write(tmp_path)), "--output", str(tmp_path / "out"), f"--{option}", value]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert not said.out
    assert not (tmp_path / "out").exists()


def test_a_plan_may_be_of_a_machine_with_other_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["study", str(write(tmp_path)), "--output", str(tmp_path / "out"), "--plan", "--devices"]
    assert main([*command, "cuda:99"]) == 0
    assert main([*command, "meta"]) == 2
    assert "no such device" in capsys.readouterr().err


@pytest.mark.parametrize("same", [{}, {"layers": ["gdn2"]}, {"layers": "gdn2", "erase_range": 1}])
def test_one_model_in_two_wordings_is_one_model(tmp_path: Path, same: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"models.again and models.GDN-2 are the same; remove one"):
        results_of(tmp_path, models={"GDN-2": {"layers": "gdn2"}, "again": same})


def test_a_time_that_no_run_fits_is_said_to_be_too_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = {**STUDY["training"], "steps": 10**6}
    path = write(tmp_path, rates=[0.01], seeds={"count": 3}, training=many)
    arguments = ["study", str(path), "--output", str(tmp_path / "out"), "--devices", "cpu", "--time-limit", "0.2s"]
    assert main(arguments) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "time is up with 6 runs still to do" in said
    assert "no run was done in that time" in said


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGHUP])
def test_a_study_that_is_told_to_end_ends_its_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, told: int
) -> None:
    started: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def sleeper(*_: object, **pipes: Any) -> subprocess.Popen[str]:
        started.append(popen([sys.executable, "-c", "import time; time.sleep(20)"], **pipes))
        threading.Timer(0.05, os.kill, (os.getpid(), told)).start()
        return started[-1]

    monkeypatch.setattr("harness.study.workers.subprocess.Popen", sleeper)
    assert main(["study", str(write(tmp_path)), "--output", str(tmp_path / "out"), "--devices", "cpu"]) == 130
    assert "interrupted; what is finished is kept" in capsys.readouterr().err
    (process,) = started
    assert process.returncode == -signal.SIGKILL
    assert signal.getsignal(told) is signal.SIG_DFL


def test_an_error_of_the_lock_is_not_taken_for_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_locks(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("basis.locks.fcntl.flock", without_locks)
    with alone_in(tmp_path / "disk"), alone_in(tmp_path / "disk"):
        pass
    with pytest.raises(UserError, match="cannot be used as a folder"), alone_in(Path("a\0b")):
        pass


@pytest.mark.parametrize(
    ("said", "code", "results", "when"), [("", 2, 0, " before its first step"), ('{"device": "cpu"}', 1, 2, "")]
)
def test_a_worker_that_is_killed_is_said_to_be(
    said: str, code: int, results: int, when: str,
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    popen = subprocess.Popen
    script = f"import os; print({said!r}, flush=True); os.kill(os.getpid(), 9)"
    monkeypatch.setattr(
        "harness.study.workers.subprocess.Popen", lambda *_, **pipes: popen([sys.executable, "-c", script], **pipes)
    )
    path, out = write(tmp_path, models={"KDA": {"layers": "kda"}}, seeds={"count": 1}), tmp_path / "out"
    assert main(["study", str(path), "--output", str(out), "--devices", "cpu"]) == code
    words = " ".join(capsys.readouterr().err.split())
    assert f"worker on cpu was ended by SIGKILL, as systems do where memory runs out{when}" in words
    assert len([*(out / "mini" / "runs").glob("*.json")]) == results
