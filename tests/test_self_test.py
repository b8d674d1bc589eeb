"""The self-test at the start of a run: a right operator passes, a wrong one stops the run, the record says which."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import small_checkpoint, small_config, small_model, small_tokenizer
from records import record
from rich.console import Console
from runs import run

import gdn2.ops
from gdn2.ops.self_test import Comparison, SelfTest, SelfTestError, self_test
from harness.cli import main as cli
from harness.engine import self_test as ours
from harness.errors import UserError
from harness.lm.model import GDN2LM
from harness.records.record import read_record
from harness.runs.options import RunOptions

CHUNKWISE = ["chunkwise, mild decay", "chunkwise, strong decay"]
RECURRENT = ["recurrent, T = 1", "recurrent, T = 8"]
ALL = [*CHUNKWISE, *RECURRENT, "packed", "segments"]
RIGHT, RIGHT_UNPACK = gdn2.ops.chunked_gated_delta_rule_2, gdn2.ops.unpack


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No answer of another test, and none left behind."""
    for name in (ours.SELF_TEST_VARIABLE, ours.BACKEND_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    once = ours.self_test_once
    once.cache_clear()
    yield
    once.cache_clear()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("checkpoints") / "small")


def on_the_cpu(
    dtype: torch.dtype = torch.float32, chosen: str = "chunked", heads: tuple[Any, ...] = ((16, 16),)
) -> SelfTest:
    return self_test("cpu", heads=heads, dtype=dtype, backend=chosen)


def without_erasing(q: Any, k: Any, v: Any, g: Any, b: Any, w: Any, scale: Any, state: Any) -> Any:
    return RIGHT(q, k, v, g, 0 * b, w, scale, state)


def without_the_first_state(q: Any, k: Any, v: Any, g: Any, b: Any, w: Any, scale: Any, state: Any) -> Any:
    return RIGHT(q, k, v, g, b, w, scale, 0 * state)


def with_a_state_of_bfloat16(q: Any, k: Any, v: Any, g: Any, b: Any, w: Any, scale: Any, state: Any) -> Any:
    o, last = RIGHT(q, k, v, g, b, w, scale, state)
    return o, last.bfloat16().to(last.dtype)


def with_one_nan(q: Any, k: Any, v: Any, g: Any, b: Any, w: Any, scale: Any, state: Any) -> Any:
    o, last = RIGHT(q, k, v, g, b, w, scale, state)
    o[-1:, -1:, -1:, -1:] = torch.nan
    return o, last


def unpacked_one_token_early(x: Any, offsets: Any) -> Any:
    return RIGHT_UNPACK(x, (*(max(offset - 1, 0) for offset in offsets[:-1]), offsets[-1]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("chosen", ["auto", "chunked", "naive"])
def test_a_right_operator_passes_in_every_dtype(dtype: torch.dtype, chosen: str) -> None:
    found = on_the_cpu(dtype, chosen)
    assert found.passed, found.report()
    assert found.backend == ("naive" if chosen == "naive" else "chunked")
    found.require()


def test_every_path_is_compared_at_every_distinct_head_size() -> None:
    found = on_the_cpu(heads=((16, 16), (12, 40), (16, 16)))
    assert [(item.name, item.d_k, item.d_v) for item in found.comparisons] == [
        *((name, 16, 16) for name in ALL),
        *((name, 12, 40) for name in ALL),
    ]
    assert len(found.report().splitlines()) == 2 * len(ALL)


def test_inputs_are_the_same_whatever_was_drawn_before() -> None:
    state = torch.manual_seed(1).get_state()
    first = on_the_cpu()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert on_the_cpu().comparisons == first.comparisons


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("wrong", "found_by"),
    [
        (without_erasing, [*CHUNKWISE, *RECURRENT]),
        (without_the_first_state, [*CHUNKWISE, *RECURRENT, "segments"]),
        (with_one_nan, ALL),
    ],
)
def test_a_wrong_kernel_is_found(
    monkeypatch: pytest.MonkeyPatch, wrong: Any, found_by: Any, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(gdn2.ops, "chunked_gated_delta_rule_2", wrong)
    found = on_the_cpu(dtype)
    assert [item.name for item in found.comparisons if not item.passed] == found_by
    with pytest.raises(SelfTestError) as raised:
        found.require()
    for name in ALL:
        assert (f"{name} (d_k 16, d_v 16): error" in str(raised.value)) == (name in found_by)


def test_a_state_that_loses_precision_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gdn2.ops, "chunked_gated_delta_rule_2", with_a_state_of_bfloat16)
    assert not on_the_cpu().passed


def test_packed_neighbours_that_mix_are_found_by_the_packed_comparison_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gdn2.ops, "unpack", unpacked_one_token_early)
    assert [item.name for item in on_the_cpu().comparisons if not item.passed] == ["packed"]


def test_an_operator_that_cannot_run_is_told_from_a_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_resources(*_: Any) -> Any:
        raise RuntimeError("out of resource: shared memory\nmore")

    monkeypatch.setattr(gdn2.ops, "chunked_gated_delta_rule_2", out_of_resources)
    with pytest.raises(SelfTestError, match=r"does not run .* RuntimeError: out of resource: shared memory\. Backend"):
        on_the_cpu()


def test_the_message_says_how_far_off_where_and_the_way_out() -> None:
    wrong, right = Comparison("packed", 128, 64, 0.25, 8e-3), Comparison("segments", 128, 64, 1e-3, 8e-3)
    found = SelfTest("triton", torch.device("cpu"), torch.bfloat16, ((128, 64),), (wrong, right), 0.5)
    with pytest.raises(SelfTestError) as raised:
        found.require()
    message = str(raised.value)
    assert "packed (d_k 128, d_v 64): error 2.5e-01, at most 8e-03: WRONG" in message
    assert "segments" not in message
    assert f"Backend triton on cpu in bfloat16, torch {torch.__version__}, triton" in message
    assert "GDN2_BACKEND=chunked runs without the Triton kernels" in message


def test_nan_does_not_pass_and_json_can_say_so() -> None:
    found = SelfTest("x", torch.device("cpu"), torch.float32, (), (Comparison("x", 1, 1, float("nan"), 1e9),), 0.0)
    assert not found.passed
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["comparisons"][0]["error"] is None


def test_what_cannot_be_tested_is_named() -> None:
    with pytest.raises(ValueError, match="dtype must be one of bfloat16, float16, float32, float64, got int64"):
        on_the_cpu(torch.int64)
    with pytest.raises(ValueError, match="heads must have at least one pair"):
        on_the_cpu(heads=())


def options(checkpoint: Path, output: Path) -> RunOptions:
    return RunOptions(checkpoint=str(checkpoint), tasks=("niah_single_1@512",), samples=1, device="cpu", output=output)


def test_a_wrong_operator_stops_the_run_before_its_first_request(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gdn2.ops, "chunked_gated_delta_rule_2", without_erasing)
    monkeypatch.delenv(cli.DEBUG_VARIABLE, raising=False)
    with pytest.raises(UserError, match=r"chunkwise, mild decay \(d_k 16, d_v 16\): error .* at most 5e-06: WRONG"):
        run(options(checkpoint, tmp_path), Console(file=io.StringIO()))
    typed = ["run", str(checkpoint), "--tasks", "niah_single_1@512", "--device", "cpu", "--output", str(tmp_path)]
    assert cli.main(typed) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "GDN2_BACKEND=naive" in line
    assert list(tmp_path.iterdir()) == []


def test_the_record_has_the_figures_and_the_protocol_has_not(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested, folder = run(options(checkpoint, tmp_path), Console(file=io.StringIO()))
    read = read_record(folder / "record.json").model.self_test
    assert read is not None
    kept = read.as_dict()
    assert kept["passed"]
    assert {name: kept[name] for name in ("backend", "device", "dtype")} == {
        "backend": "chunked",
        "device": "cpu",
        "dtype": "float32",
    }
    assert [item["name"] for item in kept["comparisons"]] == ALL
    assert all(item["error"] <= item["tolerance"] == 5e-6 for item in kept["comparisons"])
    (results,) = folder.glob("results_*.json")
    assert json.loads(results.read_text())["config"]["self_test"] == kept

    monkeypatch.setenv(ours.SELF_TEST_VARIABLE, "0")
    monkeypatch.setattr(ours, "self_test_once", None)
    skipped, folder = run(options(checkpoint, tmp_path), Console(file=io.StringIO()))
    read = read_record(folder / "record.json").model.self_test
    assert read is not None
    kept = read.as_dict()
    assert kept == {"passed": None, "skipped": "GDN2_SELF_TEST=0"}
    assert skipped.protocol_hash == tested.protocol_hash


def test_records_from_before_the_self_test_are_read(tmp_path: Path) -> None:
    older = record()
    assert older.model.self_test is None
    (tmp_path / "record.json").write_text(older.to_json())
    assert read_record(tmp_path / "record.json") == older


def test_many_models_of_a_process_ask_once(checkpoint: Path) -> None:
    first, second = GDN2LM(str(checkpoint)), GDN2LM(str(checkpoint), batch_size=1)
    assert ours.self_test_once.cache_info().misses == 1
    assert first.get_model_info()["self_test"] == second.get_model_info()["self_test"]
    GDN2LM(str(checkpoint), dtype="bfloat16")
    assert ours.self_test_once.cache_info().misses == 2


def test_grouped_value_heads_are_tested_as_the_operator_sees_them(tmp_path: Path) -> None:
    small_model(small_config(num_value_heads=4, value_head_dim=12)).save_pretrained(tmp_path)
    small_tokenizer().save_pretrained(tmp_path)
    (sizes,) = {(c["d_k"], c["d_v"]) for c in GDN2LM(str(tmp_path)).get_model_info()["self_test"]["comparisons"]}
    assert sizes == (16, 24)


def test_a_backend_that_does_not_exist_is_a_mistake_of_the_user(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ours.BACKEND_VARIABLE, "chunky")
    with pytest.raises(UserError, match="backend must be one of auto, naive, chunked, triton, got 'chunky'"):
        GDN2LM(str(checkpoint))
