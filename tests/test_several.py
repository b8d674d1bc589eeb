"""Several checkpoints in one command: one that fails is named and loses no other, then they are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ballast import ballast
from fakes import small_checkpoint

from harness.analysis.selection import find_runs
from harness.cli.main import main
from harness.engine import resident
from harness.errors import UserError
from harness.runs import runner
from harness.runs.options import RunOptions, check_several
from harness.runs.several import Together, for_each

Said = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Two that work, and between them one whose weights are cut short."""
    folder = tmp_path_factory.mktemp("checkpoints")
    first, broken, second = (small_checkpoint(folder / name) for name in ("first", "broken", "second"))
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    return first, broken, second


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    def command(*arguments: object, code: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == code
        out, err = capsys.readouterr()
        return out, err

    return command


ASKED = ("--tasks", "niah_single_1@512", "--samples", 2)


def test_one_that_fails_is_named_an_interrupted_one_goes_on_and_all_are_compared(
    checkpoints: tuple[Path, Path, Path], said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, asked = runner.measure, []

    def measure(model: Any, *arguments: Any) -> Any:
        asked.append(model.path.name)
        if asked == ["first", "second"]:
            raise KeyboardInterrupt
        return original(model, *arguments)

    monkeypatch.setattr(runner, "measure", measure)
    all_three = ("run", *checkpoints, *ASKED, "--output", tmp_path, "--name", "new-{}")
    said(*all_three, code=130)
    (first,) = find_runs([tmp_path])
    out, err = said(*all_three, code=1)
    assert asked == ["first", "second", "second"]
    assert f"finished before the interruption: {first.folder}" in err
    assert f"checkpoint 2 of 3: {checkpoints[1]}" in err
    assert f"error: {checkpoints[1]}" in err
    assert "1 of 3 checkpoints failed; 2 finished" in err
    table, comparison = out.split("A = new-first   B = new-second")
    assert "new-first" in table.split("this harness")[1]
    assert "niah_single_1@512" in comparison
    commands = {run.record.name: run.record.command for run in find_runs([tmp_path])}
    rest = (*map(str, ASKED), "--name", "new-{}")
    assert commands == {
        "new-first": ("run", str(checkpoints[0]), *rest),
        "new-second": ("run", str(checkpoints[2]), *rest),
    }


def test_what_is_finished_is_not_taken_up_by_another_command_or_with_other_weights(tmp_path: Path) -> None:
    own = small_checkpoint(tmp_path / "own")
    fields: dict[str, Any] = {"tasks": ("niah_single_1@512",), "samples": 1, "output": tmp_path / "runs"}
    options = RunOptions(checkpoint=str(own), command=("run", "own"), **fields)
    together = Together([options])
    done = runner.run_options(options)
    together.keep(options, done)
    found = Together([options]).find(options)
    assert found is not None
    assert found.folder == done.folder
    assert Together([replace(options, command=("run", "own", "--samples", "2"))]).find(options) is None
    assert together.find(replace(options, samples=2)) is None
    small_checkpoint(own, seed=1)
    assert together.find(options) is None
    together.clear()
    assert not list((tmp_path / "runs").glob(".unfinished*"))


def test_plan_says_what_all_of_them_ask_for(checkpoints: tuple[Path, Path, Path], said: Said, tmp_path: Path) -> None:
    both = ("plan", checkpoints[0], checkpoints[2], *ASKED, "--output", tmp_path)
    out, _ = said(*both, "--tokens-per-second", 100)
    assert f"checkpoint 2 of 2: {checkpoints[2]}" in out
    assert "all 2 checkpoints, one after the other: at most " in out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("gdn2-tiny", "gdn2-tiny"), "gdn2-tiny: given twice"),
        (("gdn2/zoo/gdn2-tiny", "gdn2/zoo/../zoo/gdn2-tiny"), "given twice"),
        (("gdn2-tiny", "gdn2/zoo/gdn2-tiny", "--name", "one"), "2 checkpoints cannot have one name"),
        (("gdn2-tiny", "no-such-model"), "no-such-model"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(
    arguments: tuple[str, ...], named: str, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parent.parent)
    monkeypatch.setattr(runner, "run_options", None)
    _, err = said("run", *arguments, code=2)
    assert named in err


def test_names_with_the_place_of_their_own_are_allowed_for_several() -> None:
    check_several([RunOptions(checkpoint=name, name="a-{}") for name in ("x", "y")])
    check_several([RunOptions(checkpoint="x", name="a")])
    with pytest.raises(UserError, match=r"--name 'a-\{\}'"):
        check_several([RunOptions(checkpoint=name, name="a") for name in ("x", "y")])


def test_errors_are_kept_as_text_so_that_no_model_outlives_its_run() -> None:
    class Model:
        alive = 0

        def __init__(self) -> None:
            Model.alive += 1

        def __del__(self) -> None:
            Model.alive -= 1

    def act(options: RunOptions) -> int:
        assert Model.alive == 0
        model = Model()
        if options.checkpoint == "mendable":
            raise UserError("mend\n me")
        return 1 // len(options.checkpoint[len("finished") :]) if model else 0

    names = ("mendable", "finished", "finished+")
    outcomes = for_each([RunOptions(checkpoint=name) for name in names], act)
    assert [outcome.problem for outcome in outcomes] == [
        "mend me",
        "ZeroDivisionError: integer division or modulo by zero",
        None,
    ]
    assert [outcome.trace is None for outcome in outcomes] == [True, False, True]


def test_peaks_of_memory_begin_anew_with_each_checkpoint() -> None:
    if resident.peak_bytes_since_reset() is None or not resident.CLEAR_REFS.exists():
        pytest.skip("the system does not say")
    taken = ballast(64 << 20)
    before = resident.peak_bytes()
    taken.close()
    for_each([RunOptions(checkpoint="x")], lambda _: None)
    assert resident.peak_bytes() < before - (32 << 20)
