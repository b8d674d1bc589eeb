"""What a training keeps when it ends early, and what it makes of a saved state."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from trials import LINE, Trial

from gdn2.train import loop, saves
from gdn2.train import tokenizer as tokenizer_module

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def trial(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.setattr(tokenizer_module, "NUMBER_REPEATS", 20)
    return Trial(tmp_path, capsys)


class TestStates:
    @pytest.fixture
    def saved(self, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> Trial:
        """A trial that was interrupted in its second step."""
        original, calls = loop.backward, []

        def interrupted(*args: Any) -> Any:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return original(*args)

        with monkeypatch.context() as patch:
            patch.setattr(loop, "backward", interrupted)
            assert trial.run() == 130
        return trial

    def test_the_first_step_is_saved_and_the_way_on_is_said(self, saved: Trial) -> None:
        assert f"the same command goes on from the last save in {saved.work}" in saved.capsys.readouterr().err
        assert saved.run() == 0
        assert "continuing at step 1 of 2" in saved.capsys.readouterr().out

    def test_an_interrupt_before_the_first_save_says_so(self, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: Any) -> Any:
            raise KeyboardInterrupt

        monkeypatch.setattr(loop, "backward", interrupted)
        assert trial.run() == 130
        assert "nothing was saved yet" in trial.capsys.readouterr().err

    def test_time_saves_as_well(self, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
        steps: list[int] = []
        monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
        monkeypatch.setattr(saves.WorkFolder, "save", lambda _self, _model, _opt, progress: steps.append(progress.step))
        trial.recipe["stages"][0]["steps"] = 4
        assert trial.run() == 0
        assert steps == [1, 2, 3, 4]

    @pytest.mark.parametrize(
        "damage",
        [
            lambda path: path.write_bytes(b""),
            lambda path: path.write_bytes(b"no pickle at all"),
            lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
            lambda path: torch.save([1, 2], path),
            lambda path: torch.save({"recipe": 5}, path),
            lambda path: _change(path, lambda state: state.update(step=10**9)),
            lambda path: _change(path, lambda state: state.update(step="1")),
            lambda path: _change(path, lambda state: state.update(log=[{"step": 1}])),
            lambda path: _change(path, lambda state: state.update(log=5)),
            lambda path: _change(path, lambda state: state.update(sums={"text": "x"})),
            lambda path: _change(path, lambda state: state["sums"].pop("tokens")),
            lambda path: _change(path, lambda state: state["model"].clear()),
            lambda path: _change(path, lambda state: state["optimizer"].update(param_groups=[])),
            lambda path: _change(path, lambda state: state["optimizer"]["state"].clear()),
            lambda path: _change(path, lambda state: state["optimizer"]["state"][0].update(exp_avg=torch.zeros(3))),
            lambda path: (path.unlink(), path.mkdir()),
        ],
    )
    def test_a_damaged_state_is_named_with_the_way_out(self, saved: Trial, damage: Callable[[Path], object]) -> None:
        damage(saved.work / "state.pt")
        saved.capsys.readouterr()
        said = saved.refused()
        assert "state.pt: damaged, or no state of this trainer" in said
        assert "remove it to begin anew, or choose another folder with --work" in said

    def test_a_hostile_state_is_not_executed(self, saved: Trial) -> None:
        class Hostile:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.system, (f"touch {saved.folder / 'owned'}",)

        torch.save({"recipe": Hostile()}, saved.work / "state.pt")
        saved.capsys.readouterr()
        assert "damaged" in saved.refused()
        assert not (saved.folder / "owned").exists()

    def test_a_state_of_another_text_is_refused(self, saved: Trial) -> None:
        (saved.folder / "train.jsonl").write_text(LINE * 13)
        saved.capsys.readouterr()
        assert "was trained on another text" in saved.refused()

    def test_a_full_disk_keeps_the_last_save(self, saved: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
        before = (saved.work / "state.pt").read_bytes()

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        saved.capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            assert "step 2 cannot be saved (No space left on device)" in saved.refused()
        assert (saved.work / "state.pt").read_bytes() == before
        assert saved.run() == 0


def _change(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


class TestOutput:
    def test_a_full_disk_under_the_output_does_not_end_a_training(
        self, trial: Trial, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Path("/dev/full").open("w") as full, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", full)
            assert trial.run() == 0
        said = trial.capsys.readouterr().err.splitlines()
        assert said == ["standard output cannot be written (No space left on device); what it would have said is lost"]
        assert (trial.out / "config.json").is_file()

    def test_a_reader_that_has_gone_away_does_not_end_a_training(self, trial: Trial) -> None:
        trial.file.write_text(yaml.safe_dump(trial.recipe))
        arguments = [str(trial.file), "--work", str(trial.work), "--out", str(trial.out)]
        code = (
            f"from gdn2.train import __main__, tokenizer as t; t.NUMBER_REPEATS = 9; exit(__main__.main({arguments}))"
        )
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True)
        os.close(writing)
        assert (done.returncode, done.stderr) == (0, "")
        assert (trial.out / "config.json").is_file()
