"""benchmarks/kernels.py compares two runs: the files are made up here, since there is no GPU to measure on."""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from basis.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "benchmarks" / "results" / "2026-11-23_h200.json"


@pytest.fixture(scope="module")
def benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("kernel_benchmark", ROOT / "benchmarks" / "kernels.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(forward: float = 1.0, decode: float = 20.0, gpu: str = "NVIDIA H200", T: int = 2048) -> dict[str, Any]:
    long = {"shape [B, T, H, d_k, d_v]": [1, T, 16, 128, 128], "dtype": "bfloat16", "ours forward ms": forward}
    step = {"decode [N, H, d]": [32, 16, 128], "ours eager us": decode, "fla eager us": 45.0}
    return {"machine": {"gpu": gpu}, "rows": [long, step], "verdicts": ["met    a target"]}


def run(
    benchmark: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    old: dict[str, Any],
    new: dict[str, Any],
    *options: str,
) -> None:
    files = []
    for name, content in (("old", old), ("new", new)):
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(content))
    command = ["kernels.py", "--compare", str(files[0]), "--measured", str(files[1]), *options]
    monkeypatch.setattr(sys, "argv", command)
    benchmark.main()


def test_times_within_the_threshold_pass_and_ratios_are_printed(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(benchmark, monkeypatch, tmp_path, record(), record(1.09, 10.0))
    out = capsys.readouterr().out
    assert "[1, 2048, 16, 128, 128] bfloat16 ours forward ms: 1 -> 1.09, 1.09 times" in out
    assert "decode [32, 16, 128] ours eager us: 20 -> 10, 0.50 times" in out
    assert "fla" not in out
    assert "2 medians compared, 0 over 1.10 times" in out


def test_one_slower_median_fails_and_is_named(benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(benchmark, monkeypatch, tmp_path, record(), record(decode=22.5))
    assert stopped.value.code != 0
    assert "decode [32, 16, 128] ours eager us: 1.12 times" in str(stopped.value)
    assert "forward" not in str(stopped.value)
    with pytest.raises(SystemExit):
        run(benchmark, monkeypatch, tmp_path, record(), record(float("nan")))


def test_the_threshold_is_an_option(benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run(benchmark, monkeypatch, tmp_path, record(), record(1.4), "--threshold", "0.5")
    with pytest.raises(SystemExit, match=r"1\.40 times"):
        run(benchmark, monkeypatch, tmp_path, record(), record(1.4), "--threshold", "0.3")


def test_other_gpus_other_shapes_and_other_files_do_not_compare(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="two GPU models do not compare"):
        run(benchmark, monkeypatch, tmp_path, record(gpu="NVIDIA A100"), record())
    other = record(T=4096)
    del other["rows"][1]
    with pytest.raises(SystemExit, match="nothing to compare"):
        run(benchmark, monkeypatch, tmp_path, record(), other)
    assert "not in" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="is no file of this benchmark"):
        run(benchmark, monkeypatch, tmp_path, {"rows": 3}, record())


def test_a_dtype_of_its_own_is_a_measurement_of_its_own(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    half = record(5.0)
    half["rows"][0]["dtype"] = "float16"
    run(benchmark, monkeypatch, tmp_path, record(), half)  # the decode row alone is compared


def test_the_shipped_figures_compare_with_themselves_and_with_slower_ones(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    run(benchmark, monkeypatch, tmp_path, measured, measured)
    assert "0 over 1.10 times" in capsys.readouterr().out
    slower = copy.deepcopy(measured)
    slower["rows"][0]["ours forward+backward ms"] *= 1.2
    with pytest.raises(SystemExit, match=r"ours forward\+backward ms: 1\.20 times"):
        run(benchmark, monkeypatch, tmp_path, measured, slower)


def test_shapes_of_the_command_line_are_compiled_once_a_kind_at_both_ends_of_their_lengths(benchmark: Any) -> None:
    shapes = [benchmark.shape_of(text) for text in ("1x2048x16x128", "1x131072x16x128", "4x8192x16x64")]
    assert shapes[2] == (4, 8192, 16, 64, 64)
    jobs = benchmark.jobs_of([], [], shapes, [], None)
    assert sorted(job[1][:2] for job in jobs) == [(1, 2048), (1, 131072), (4, 8192)]


def test_a_new_file_needs_an_old_one(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["kernels.py", "--measured", str(MEASURED)])
    with pytest.raises(UserError, match=r"--compare OLD\.json, which is missing"):
        benchmark.main()
    for text in ("3", "1x2x3x0", "axbxcxd"):
        with pytest.raises(argparse.ArgumentTypeError, match="got"):
            benchmark.shape_of(text)
    assert benchmark.shape_of("4x8192x16x128") == (4, 8192, 16, 128, 128)
