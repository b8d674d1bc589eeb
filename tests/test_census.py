"""`run_eval.py plan` counts what a run asks for, and runs nothing."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

import pytest
from fakes import small_checkpoint
from records import record
from rich.console import Console
from runs import run

from gdn2 import GDN2ForCausalLM
from gdn2.checkpoints import fingerprint, read_config
from harness.errors import UserError
from harness.runs.census import count, newest_rate
from harness.runs.options import RunOptions
from harness.runs.planning import estimate_run
from harness.runs.resolve import resolve_run
from harness.show.estimate import print_estimate

TASKS = ("niah_single_1@512",)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("checkpoints") / "small")


def options(checkpoint: Path, output: Path, **changes: Any) -> RunOptions:
    fields: dict[str, Any] = {
        "checkpoint": str(checkpoint),
        "tasks": TASKS,
        "samples": 4,
        "output": output,
        "device": "cpu",
    }
    return RunOptions(**{**fields, **changes})


def test_the_census_is_what_the_run_then_does(checkpoint: Path, tmp_path: Path) -> None:
    chosen = options(checkpoint, tmp_path)
    (census,) = count(resolve_run(chosen), read_config(checkpoint), lambda _: None)
    done, _ = run(chosen, Console(file=io.StringIO()))
    (cell,) = done.cells
    assert census.requests == cell.protocol.samples == 4
    assert census.prompt_tokens == 4 * (512 - 128)
    assert census.shared_tokens == (cell.shared_tokens or 0) > 0
    assert census.generated_tokens == 4 * 128
    assert census.longest == 512
    assert census.truncated == cell.truncated == 0
    assert cell.tokens is not None
    assert cell.seconds is not None
    assert cell.tokens <= census.tokens
    assert cell.peak_memory_mib is None or cell.peak_memory_mib > 50
    rate = newest_rate([tmp_path], fingerprint(checkpoint), "cpu")
    assert rate is not None
    assert rate[0] == pytest.approx(cell.tokens / cell.seconds)
    assert newest_rate([tmp_path], fingerprint(checkpoint), "cuda:0") is None


def test_it_shows_what_is_cut_and_loads_no_weights(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GDN2ForCausalLM, "from_pretrained", None)
    console = Console(file=io.StringIO(), width=100)
    print_estimate(estimate_run(options(checkpoint, tmp_path, max_length=300), 1000.0, []), console)
    text = cast(io.StringIO, console.file).getvalue()
    assert "Requests that are cut lose their beginning" in text
    row = next(line.split() for line in text.splitlines() if line.strip().startswith("niah_single_1@512"))
    assert row[1:3] == ["4", f"{4 * (300 - 128)}"]
    assert row[-3:] == ["4", "1", "s"]
    assert "1,000 tokens/s (as given)" in text
    with pytest.raises(UserError, match="--tokens-per-second must be a number above 0"):
        estimate_run(options(checkpoint, tmp_path), 0.0, [])


def test_without_a_run_nobody_knows_the_speed(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(record().to_json())
    console = Console(file=io.StringIO(), width=100)
    print_estimate(estimate_run(options(checkpoint, tmp_path / "out"), None, [tmp_path]), console)
    assert (
        "unknown on cpu: no run of this checkpoint yet; --tokens-per-second"
        in cast(io.StringIO, console.file).getvalue()
    )
