"""In which dtype a checkpoint runs when nobody says: float32 on a CPU, elsewhere what its weights are stored in."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import small_checkpoint
from records import model, record
from rich.console import Console

from gdn2 import GDN2ForCausalLM
from gdn2.checkpoints import CheckpointError, choose_dtype, load_checkpoint, saved_dtype
from harness.lm.model import GDN2LM
from harness.runs.options import RunOptions
from harness.runs.planning import estimate_run
from harness.runs.runner import run_options
from harness.show.summary import print_summary


def saved_in(dtype: torch.dtype, folder: Path) -> Path:
    """A small checkpoint whose weights are stored in a dtype."""
    small_checkpoint(folder)
    stored = GDN2ForCausalLM.from_pretrained(folder, dtype=dtype)
    stored.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_cpu_runs_in_float32_and_a_gpu_in_what_was_saved(dtype: torch.dtype, tmp_path: Path) -> None:
    folder, name = saved_in(dtype, tmp_path / "model"), str(dtype).removeprefix("torch.")
    assert saved_dtype(folder) == name
    assert choose_dtype(folder, "auto", "cpu") == choose_dtype(folder, "auto", "cpu:0") == "float32"
    assert choose_dtype(folder, "auto", "cuda") == choose_dtype(folder, "auto", "cuda:1") == name
    assert choose_dtype(folder, "float64", "cpu") == choose_dtype(folder, "float64", "cuda") == "float64"
    assert load_checkpoint(folder, dtype="auto").dtype == torch.float32


def test_a_model_knows_the_name_of_what_was_chosen(tmp_path: Path) -> None:
    folder = saved_in(torch.bfloat16, tmp_path / "model")
    info = GDN2LM(str(folder)).model_info()
    assert (info.dtype, info.saved_dtype) == ("float32", "bfloat16")
    assert GDN2LM(str(folder), dtype="bfloat16").model_info().dtype == "bfloat16"
    with pytest.raises(CheckpointError, match=r"dtype must be one of auto, float64, .* got 'half'"):
        choose_dtype(folder, "half", "cuda")


def test_a_record_holds_the_resolved_dtype_and_the_same_hash_as_with_its_name(tmp_path: Path) -> None:
    folder = saved_in(torch.bfloat16, tmp_path / "model")
    given = RunOptions(checkpoint=str(folder), tasks=("niah_single_1@512",), samples=1, output=tmp_path / "out")
    default = run_options(given).record
    named = run_options(replace(given, dtype="float32")).record
    assert default.protocol.dtype == default.model.dtype == "float32"
    assert default.protocol_hash == named.protocol_hash
    assert json.loads(default.to_json())["model"]["saved_dtype"] == "bfloat16"


def test_a_plan_counts_the_weights_as_the_run_would_have_them(tmp_path: Path) -> None:
    folder = saved_in(torch.bfloat16, tmp_path / "model")
    options = RunOptions(checkpoint=str(folder), tasks=("niah_single_1@512",), samples=1, output=tmp_path / "out")
    on_a_cpu = estimate_run(replace(options, device="cpu"), None, ())
    on_a_gpu = estimate_run(replace(options, device="cuda"), None, ())
    assert (on_a_cpu.dtype, on_a_gpu.dtype) == ("float32", "bfloat16")
    assert on_a_cpu.weight_bytes == 2 * on_a_gpu.weight_bytes


def test_the_summary_says_where_a_run_was_in_another_dtype_than_was_saved() -> None:
    def shown(**changes: str) -> str:
        console = Console(file=io.StringIO(), width=200)
        print_summary(record(model=model(**changes)), Path("out"), console)
        return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]

    assert ", float32 (saved in bfloat16), context prefix" in shown(saved_dtype="bfloat16")
    assert ", float32, context prefix" in shown(saved_dtype="float32")
    assert ", float32, context prefix" in shown()
