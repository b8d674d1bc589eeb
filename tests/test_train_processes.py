"""Several processes train as one does; torchrun starts them here with two on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import distributed
from trials import Trial

from gdn2.checkpoints import load_checkpoint
from gdn2.train import tokenizer as tokenizer_module
from gdn2.train.fields import RecipeError
from gdn2.train.place import joined
from gdn2.train.recipe import load_recipe

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """
import os, signal, sys
from gdn2.train import loop, tokenizer
tokenizer.NUMBER_REPEATS = 20
rank, original, calls = os.environ["RANK"], loop.backward, []
def backward(*args):
    calls.append(1)
    if sys.argv[1] == rank and len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args)
loop.backward = backward
from gdn2.train.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def trial(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.setattr(tokenizer_module, "NUMBER_REPEATS", 20)
    trial = Trial(tmp_path, capsys)
    trial.recipe["stages"][0] = {"steps": 4, "rows": 4, "length": 64, "retrieval": 0.5, "max_keys": 1}
    (tmp_path / "script.py").write_text(SCRIPT)
    return trial


def by_torchrun(trial: Trial, dies: str = "none") -> subprocess.CompletedProcess[str]:
    trial.file.write_text(yaml.safe_dump(trial.recipe, sort_keys=False))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(trial.folder / "script.py"), dies, str(trial.file), "--out", str(trial.out)]
    command += ["--work", str(trial.work)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=trial.folder, env=environment, capture_output=True, text=True, check=False)


def result(trial: Trial) -> tuple[list[float], dict[str, torch.Tensor]]:
    losses = [json.loads(line)["text_loss"] for line in (trial.work / "log.jsonl").read_text().splitlines()]
    return losses, torch.load(trial.work / "state.pt", weights_only=True)["model"]


def alone(trial: Trial) -> tuple[list[float], dict[str, torch.Tensor]]:
    """What one process makes of the recipe, in folders of its own."""
    usual, compute = (trial.out, trial.work), trial.recipe.pop("compute", {})
    trial.out, trial.work = trial.folder / "alone-out", trial.folder / "alone-work"
    trial.recipe["compute"] = {**compute, "sharded": False}
    assert trial.run() == 0
    found = result(trial)
    trial.recipe["compute"] = compute
    trial.out, trial.work = usual
    trial.capsys.readouterr()
    return found


def assert_alike(found: tuple[list[float], dict[str, torch.Tensor]], expected: Any) -> None:
    assert found[0] == pytest.approx(expected[0], abs=2e-4)
    assert found[1].keys() == expected[1].keys()
    assert all((found[1][name] - x).abs().max() < 1e-4 for name, x in expected[1].items())


def test_two_processes_train_as_one_and_one_of_them_speaks_and_writes(trial: Trial) -> None:
    done = by_torchrun(trial)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("parameters, 2 processes") == 1
    assert done.stdout.count("step      4/4") == 1
    assert done.stdout.count("checkpoint written") == 1
    assert "Warning" not in done.stderr
    assert_alike(result(trial), alone(trial))
    assert load_checkpoint(trial.out).config.hidden_size == 16
    assert " minutes of steps by 2 processes, each on a CPU, " in (trial.out / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("compute", [{"sharded": True}, {"sharded": True, "checkpointing": True}, {"accumulation": 2}])
def test_cut_weights_and_parts_change_nothing_but_rounding(trial: Trial, compute: dict[str, Any]) -> None:
    trial.recipe["compute"] = compute
    trial.recipe["model"].update(num_hidden_layers=3, layers=["gdn2", "swa", "mamba2"], window_size=8)
    done = by_torchrun(trial)
    assert done.returncode == 0, done.stderr
    assert_alike(result(trial), alone(trial))
    assert load_checkpoint(trial.out).config.num_hidden_layers == 3


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("dies", ["0", "1"])
def test_a_killed_process_ends_the_others_and_the_same_command_goes_on(trial: Trial, dies: str, sharded: bool) -> None:
    trial.recipe.update(save_every=1, compute={"sharded": sharded})
    stopped = by_torchrun(trial, dies)
    assert stopped.returncode != 0
    assert not trial.out.exists()
    again = by_torchrun(trial)
    assert again.returncode == 0, again.stderr
    assert "continuing at step 2 of 4" in again.stdout
    assert_alike(result(trial), alone(trial))


@pytest.mark.slow
def test_a_state_of_two_processes_goes_on_with_one(trial: Trial) -> None:
    trial.recipe["save_every"] = 1
    assert by_torchrun(trial, "1").returncode != 0
    assert trial.run() == 0
    assert "continuing at step 2 of 4" in trial.capsys.readouterr().out
    assert_alike(result(trial), alone(trial))


def test_a_lost_process_is_named_with_the_way_on(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """As gloo and NCCL say it; what else fails stays what it is."""
    trial.file.write_text(yaml.safe_dump(trial.recipe))
    recipe = load_recipe(trial.file)
    for name, value in {
        "WORLD_SIZE": "2",
        "RANK": "1",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "x",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "init_process_group", lambda _: None)

    def ends_by(error: Exception) -> None:
        with joined(recipe, "cpu"):
            raise error

    for lost in (
        RuntimeError("[pair.cc:534] Connection closed by peer [127.0.0.1]"),
        distributed.DistBackendError("x"),
    ):
        with pytest.raises(RecipeError, match=r"process 1 of 2 has lost another one .* goes on from the last save"):
            ends_by(lost)
    with pytest.raises(RuntimeError, match="shapes"):
        ends_by(RuntimeError("shapes do not fit"))
