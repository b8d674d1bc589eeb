"""Folders of a training: one process at a time, nothing left by one that was killed, and disks that take no more."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from trials import Trial

from basis.locks import alone_in
from gdn2.checkpoints.tensors import write_tensors
from gdn2.train import drawing, run
from gdn2.train import tokenizer as tokenizer_module
from gdn2.train.fields import RecipeError
from gdn2.train.prepared import prepare_into
from gdn2.train.recipe import parse_recipe

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def trial(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.setattr(tokenizer_module, "NUMBER_REPEATS", 20)
    return Trial(tmp_path, capsys)


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Inside, the system takes no file of more bytes, as a disk that is full takes none."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [300, 10_000])
def test_a_disk_that_does_not_take_the_checkpoint_is_one_line_and_loses_nothing(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The config, or the weights, whose library has an error of its own."""
    export = run.export

    def on_a_small_disk(*arguments: Any, **more: Any) -> None:
        with files_up_to(size):
            export(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(run, "export", on_a_small_disk)
        said = trial.refused()
    assert "File too large" in said
    assert "the trained state is kept" in said
    assert not trial.out.exists()
    assert not [path for path in trial.folder.iterdir() if path.name.startswith(".")]
    assert trial.run() == 0


def test_a_disk_that_does_not_take_tokens_made_ahead_is_one_line(trial: Trial) -> None:
    """The tokenizer comes first, and its library raises a bare exception."""
    recipe = parse_recipe(yaml.safe_dump(trial.recipe), trial.file)
    with (
        files_up_to(1000),
        pytest.raises(RecipeError, match=r"ahead: cannot be written \(File too large.*another folder"),
    ):
        prepare_into(recipe, trial.folder / "ahead")


def test_tensors_that_a_disk_does_not_take_are_an_error_of_the_system(tmp_path: Path) -> None:
    tensors = {"x": torch.zeros(1000)}
    with files_up_to(100), pytest.raises(OSError, match="File too large") as caught:
        write_tensors(tensors, tmp_path / "x.safetensors")
    assert caught.value.errno == 27
    with pytest.raises(OSError, match="No such file"):
        write_tensors(tensors, tmp_path / "nowhere" / "x.safetensors")
    write_tensors(tensors, tmp_path / "x.safetensors", {"format": "pt"})


def test_a_work_folder_has_one_training_at_a_time(trial: Trial) -> None:
    with alone_in(trial.work):
        assert "work: another process is at work in it" in trial.refused()
    assert not (trial.work / "state.pt").exists()
    assert trial.run() == 0


def test_a_state_that_was_being_written_when_its_process_was_killed_is_cleared_away(trial: Trial) -> None:
    trial.work.mkdir()
    for name in (".state.pt.123.tmp", ".mine.123.tmp"):
        (trial.work / name).write_text("half")
    assert trial.run() == 0
    assert {path.name for path in trial.work.iterdir()} == {"state.pt", "log.jsonl", ".mine.123.tmp"}


def test_a_killed_training_leaves_its_folder_free(trial: Trial) -> None:
    code = (
        "import sys, time; from pathlib import Path; from basis.locks import alone_in\n"
        "with alone_in(Path(sys.argv[1])): print('in', flush=True); time.sleep(60)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(trial.work)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        assert "another process is at work in it" in trial.refused()
        other.kill()
    assert trial.run() == 0


def test_a_lost_process_that_draws_batches_is_named_with_the_way_on(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "_draw", lambda *_: None)
    forking = multiprocessing.get_context("fork")
    monkeypatch.setattr(drawing.multiprocessing, "get_context", lambda _: forking)
    trial.recipe["compute"] = {"drawing_processes": 1}
    said = trial.refused()
    assert "compute.drawing_processes: one of them has ended" in said
    assert "goes on from the last save" in said


def test_tokens_are_made_ahead_or_taken_from_there_not_both(trial: Trial) -> None:
    said = trial.refused(None, "--prepare", str(trial.folder / "a"), "--prepared", str(trial.folder / "b"))
    assert "--prepared: not allowed with argument --prepare" in said
