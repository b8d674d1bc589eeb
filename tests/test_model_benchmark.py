"""benchmarks/model.py at sizes that a CPU has time for: what it measures of what, and what it says of two files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import model
import pytest

from gdn2.matching import state_floats


def measured(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["model.py", *options])
    model.main()


@pytest.mark.parametrize("rival", model.RIVALS)
def test_a_rival_has_the_presets_state_and_number_of_parameters(rival: str) -> None:
    ours, theirs = model.config_of("gdn2_1.3B", False), model.config_of(f"{rival}_1.3B", False)
    assert set(theirs.layers or ()) == {rival}
    assert state_floats(theirs) == state_floats(ours)
    assert model.parameters(theirs) == pytest.approx(model.parameters(ours), rel=2e-3)
    assert (theirs.hidden_size, theirs.num_hidden_layers) == (ours.hidden_size, ours.num_hidden_layers)


def test_every_part_gives_its_figures_and_the_file_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, one = tmp_path / "new.json", ("--prefill", "32", "--rows", "2", "--lengths", "16")
    parts = ("--parts", "prefill", "decode", "training")
    measured(monkeypatch, "--tiny", "--models", "swa_gdn2_1.3B", *one, *parts, "--json", str(file))
    record = json.loads(file.read_text())
    assert [row["part"] for row in record["rows"]] == ["prefill", "decode", "training"]
    assert all(row["tokens/s"] > 0 for row in record["rows"])
    assert record["parameters"]["swa_gdn2_1.3B"] == model.parameters(model.config_of("swa_gdn2_1.3B", True))


def test_micro_batches_of_a_step_are_counted_and_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "new.json"
    for parts in (1, 3):
        options = ("--parts", "training", "--lengths", "16", "--tokens", "32", "--accumulation", str(parts))
        measured(monkeypatch, "--tiny", "--models", "gdn2_1.3B", *options, "--json", str(file))
        (row,) = json.loads(file.read_text())["rows"]
        assert row["tokens/s"] * row["ms"] / 1000 == pytest.approx(32 * parts)
        assert ("accumulation 3" in model.identity(row)) == (parts == 3)


def test_a_profile_has_the_costliest_kernels_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, one = tmp_path / "new.json", ("--models", "mamba2_1.3B", "--parts", "prefill", "--prefill", "16")
    measured(monkeypatch, "--tiny", *one, "--profile", "--json", str(file))
    kernels = json.loads(file.read_text())["rows"][0]["kernels"]
    assert 0 < len(kernels) <= model.KERNELS
    assert [ms for _, ms, _ in kernels] == sorted((ms for _, ms, _ in kernels), reverse=True)


def test_worse_figures_are_named_whichever_way_they_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def record(ms: float, rate: float, peak: float) -> str:
        row = {"part": "training", "model": "m", "length": 2048, "ms": ms, "tokens/s": rate, "peak GiB": peak}
        return json.dumps({"machine": {"gpu": "H"}, "rows": [row]})

    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(record(100.0, 1000.0, 40.0))
    for text, said in (
        (record(100.0, 850.0, 40.0), "tokens/s: 0.85 times"),
        (record(112.0, 1000.0, 40.0), "ms: 1.12 times"),
        (record(100.0, 1000.0, 45.0), "peak GiB: 1.12 times"),
    ):
        new.write_text(text)
        with pytest.raises(SystemExit) as stopped:
            measured(monkeypatch, "--compare", str(old), "--measured", str(new))
        assert f"training m length 2048 {said}" in str(stopped.value)
        assert str(stopped.value).count("times") == 1
    new.write_text(record(50.0, 2000.0, 20.0))
    measured(monkeypatch, "--compare", str(old), "--measured", str(new))
    assert "3 medians compared, 0 over 1.10 times" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_train_and_say_their_efficiency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "new.json"
    given = ("--tiny", "--models", "gdn2_1.3B", "--parts", "training", "--processes", "2")
    measured(monkeypatch, *given, "--json", str(file))
    rows = json.loads(file.read_text())["rows"]
    assert [row["processes"] for row in rows] == [1, 1, 2, 2]
    assert all(row["efficiency"] > 0 for row in rows[2:])


@pytest.mark.slow
def test_hflm_generates_the_same_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "new.json"
    measured(monkeypatch, "--tiny", "--models", "swa_gdn2_1.3B", "--parts", "hflm", "--json", str(file))
    (row,) = json.loads(file.read_text())["rows"]
    assert row["agreement"] == "8 of 8 texts equal"
    assert row["ratio"] > 0


def test_a_machine_without_lm_eval_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "new.json"
    monkeypatch.setattr(model.importlib.util, "find_spec", lambda _: None)
    measured(monkeypatch, "--tiny", "--models", "gdn2_1.3B", "--parts", "hflm", "--json", str(file))
    assert json.loads(file.read_text())["rows"][0]["fails"] == "lm-eval is not installed"
