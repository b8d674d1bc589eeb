"""The trainer on GPUs: near to the CPU, resumable, and by several of them as by one."""

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
from trials import Trial

from gdn2.train import loop
from gdn2.train import tokenizer as tokenizer_module

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.gpu


@pytest.fixture
def trial(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.setattr(tokenizer_module, "NUMBER_REPEATS", 20)
    trial = Trial(tmp_path, capsys)
    trial.recipe["model"] |= {"hidden_size": 64, "num_hidden_layers": 2, "layers": ["gdn2", "swa"], "head_dim": 32}
    trial.recipe["model"] |= {"attention_heads": 2, "window_size": 16}
    trial.recipe["stages"][0] = {"steps": 4, "rows": 4, "length": 96, "retrieval": 0.5, "max_keys": 1}
    return trial


def log_of(trial: Trial, name: str, *options: str) -> list[dict[str, Any]]:
    trial.out, trial.work = trial.folder / f"{name}-out", trial.folder / f"{name}-work"
    assert trial.run(None, *options) == 0
    return [json.loads(line) for line in (trial.work / "log.jsonl").read_text().splitlines()]


def losses(log: list[dict[str, Any]]) -> list[float]:
    return [entry["text_loss"] for entry in log]


@pytest.mark.parametrize(("precision", "error"), [("float32", 1e-3), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_gpu_trains_as_a_cpu_does(trial: Trial, precision: str, error: float, checkpointing: bool) -> None:
    cpu = log_of(trial, "cpu", "--device", "cpu")
    trial.recipe["compute"] = {"precision": precision, "checkpointing": checkpointing, "accumulation": 2}
    gpu = log_of(trial, "gpu")
    assert losses(gpu) == pytest.approx(losses(cpu), abs=error)
    assert all(entry["memory_gib"] >= 0 for entry in gpu)
    known = any(name in torch.cuda.get_device_name() for name in ("H100", "H200", "A100"))
    assert all((entry["utilisation"] is not None) == known for entry in gpu)


def test_an_interrupted_run_goes_on_to_the_same_losses(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    trial.recipe["save_every"] = 1
    whole, original, calls = log_of(trial, "whole"), loop.backward, []

    def dies(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args)

    trial.out, trial.work = trial.folder / "cut-out", trial.folder / "cut-work"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "backward", dies)
        assert trial.run() == 130
    assert losses(log_of(trial, "cut")) == pytest.approx(losses(whole), abs=1e-4)


@pytest.mark.parametrize("sharded", [False, True])
def test_two_gpus_train_as_one(trial: Trial, sharded: bool) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    one = losses(log_of(trial, "one"))
    trial.recipe["compute"] = {"sharded": sharded}
    trial.file.write_text(yaml.safe_dump(trial.recipe, sort_keys=False))
    code = (
        "import sys; from gdn2.train import __main__, tokenizer as t; t.NUMBER_REPEATS = 20; sys.exit(__main__.main())"
    )
    script = trial.folder / "script.py"
    script.write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    command += [str(trial.file), "--out", str(trial.folder / "two"), "--work", str(trial.folder / "two-work")]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    log = [json.loads(line) for line in (trial.folder / "two-work" / "log.jsonl").read_text().splitlines()]
    assert losses(log) == pytest.approx(one, abs=1e-3)
