"""The picture of a study: exact numbers over seeds, and what there is none of by name."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pictures import HOSTILE, faults, texts
from scipy.stats import t

from harness.analysis.picture_data import PictureData
from harness.cli.main import main
from harness.errors import UserError
from harness.show.plots.look import Look
from harness.show.plots.registry import STUDIES, render
from harness.show.plots.sheet import drawn_as
from harness.show.plots.values import values_csv
from harness.study.curves import StudyRow, over_pairs
from harness.study.plan import load_study
from harness.study.results import StudyResults

ROOT = Path(__file__).resolve().parent.parent
ROWS = {"length": 64, "rows": 32, "vocab_size": 128}
TESTS = [{**ROWS, "keys": 8}, {**ROWS, "keys": 4, "writes": 16}, {**ROWS, "keys": 2}, {**ROWS, "keys": 4}]
LABELS = ("8 pairs @64", "4 keys, 16 writes @64", "2 pairs @64", "4 pairs @64")
STUDY: dict[str, Any] = {
    "name": "mini",
    "base": {"vocab_size": 128, "hidden_size": 16, "num_hidden_layers": 1, "num_heads": 1, "head_dim": 8,
             "intermediate_size": 0},
    "models": {"GDN-2": {"layers": "gdn2"}, "KDA, named in full": {"layers": "kda"}, "GLA": {"layers": "gla"}},
    "train": [{**ROWS, "keys": 2}],
    "tests": TESTS,
    "training": {"steps": 4, "batch_rows": 16, "validate_every": 2, "validation_rows": 8},
    "rates": [0.01],
    "seeds": {"count": 3, "choose": 1},
}  # fmt: skip


def written(folder: Path, **changes: Any) -> str:
    path = folder / "mini.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False), encoding="utf-8")
    return str(path)


def results_of(folder: Path, seeds: dict[str, Sequence[float | None]]) -> StudyResults:
    """A study with these seeds of each model: its accuracy at the first test, less at the others; None failed."""
    results = StudyResults(load_study(written(folder)), folder / "out" / "mini", print)
    for model, values in seeds.items():
        for seed, value in enumerate(values, 1):
            run = results.grid[model, 0.01, seed]
            result: dict[str, Any] = {"identity": run.identity, "failed": "the loss is no number"}
            if value is not None:
                tests = [{"label": label, "accuracy": value - 0.1 * i} for i, label in enumerate(LABELS)]
                sizes = {"parameters": 10, "parameters_without_embedding": 5, "state_floats": [64], "seconds": 1.0}
                result = {"identity": run.identity, "curve": [{"validation_loss": 1.0}], "tests": tests, **sizes}
                result["converged"] = True
            results.found[run.identity] = result
            results.folder.mkdir(parents=True, exist_ok=True)
            (results.folder / f"{run.identity}.json").write_text(json.dumps(result), encoding="utf-8")
    return results


SEEDS: dict[str, Sequence[float | None]] = {"GDN-2": (0.7, 0.8, 0.9), "KDA, named in full": (0.5,)}


def test_the_numbers_are_means_over_seeds_with_students_interval_in_the_order_of_the_file(tmp_path: Path) -> None:
    data = over_pairs(results_of(tmp_path, SEEDS))
    assert data.values("model") == ["GDN-2", "KDA, named in full"]
    own = [row for row in data.rows if row.model == "GDN-2"]
    assert [(row.kind, row.keys, row.writes) for row in own] == [
        ("recall", 2, 2), ("recall", 4, 4), ("recall", 8, 8), ("overwriting", 4, 16),
    ]  # fmt: skip
    assert own[2].seeds == (0.7, 0.8, 0.9)
    reach = float(t.ppf(0.975, 2)) * 0.1 / 3**0.5
    assert (own[2].value, own[2].low, own[2].high) == pytest.approx((0.8, 0.8 - reach, 1.0))
    assert own[0].value == pytest.approx(0.6)
    assert own[2].rate == 0.01
    alone = data.rows[-1]
    assert (alone.low, alone.high, len(alone.seeds)) == (None, None, 1)
    assert data.notes == ("KDA, named in full: 1 of 3 seeds", "not trained yet: GLA")


def test_a_run_that_failed_is_named(tmp_path: Path) -> None:
    data = over_pairs(results_of(tmp_path, {"GDN-2": (0.7, None, 0.9)}))
    assert data.rows[0].seeds == pytest.approx((0.5, 0.7))
    assert "GDN-2, rate 0.01, seed 2 failed: the loss is no number" in data.notes


def test_models_are_chosen_by_name_or_pattern_and_nothing_is_said_of_others(tmp_path: Path) -> None:
    results = results_of(tmp_path, {**SEEDS, "GLA": (0.7, None, 0.9)})
    data = over_pairs(results, ["kda*", "GDN-2"])
    assert data.values("model") == ["GDN-2", "KDA, named in full"]
    assert not any("GLA" in note for note in data.notes)
    with pytest.raises(UserError, match=r"--models Mamba: the study has no such model; there are GDN-2; KDA, named"):
        over_pairs(results, ["kda*", "Mamba"])


def test_shipped_numbers_are_those_of_the_runs() -> None:
    shown = json.loads((ROOT / "docs/pictures/study.json").read_text(encoding="utf-8"))
    found = [json.loads(path.read_text()) for path in sorted((ROOT / "results/studies/mqar/runs").glob("*.json"))]
    assert {row["kind"] for row in shown["rows"]} == {"recall", "overwriting"}
    for row in shown["rows"]:
        own = [result for result in found if "tests" in result and result["run"]["model"] == row["model"]]
        own = sorted(
            (result for result in own if result["run"]["learning_rate"] == row["rate"]),
            key=lambda result: int(result["run"]["seed"]),
        )
        tests = [test for result in own for test in result["tests"] if test["label"] == row["test"]]
        assert row["seeds"] == [test["accuracy"] for test in tests]
        assert row["value"] == pytest.approx(sum(row["seeds"]) / len(row["seeds"]))


def settled(data: PictureData[StudyRow], look: Look) -> Any:
    with drawn_as(look):
        sheet = STUDIES["study"].draw(data, look)
        sheet.settle()
    return sheet


@pytest.mark.parametrize("width", [2.5, 3.3, 6.9])
@pytest.mark.parametrize("models", [("GDN-2",), ("GDN-2, one erase gate a head (mean)", *HOSTILE)])
def test_no_text_is_cut_off_or_over_another(models: tuple[str, ...], width: float, tmp_path: Path) -> None:
    one = over_pairs(results_of(tmp_path, {"GDN-2": (0.7, 0.8, 0.9)}))
    rows = tuple(replace(row, model=model) for model in models for row in one.rows)
    sheet = settled(replace(one, rows=rows, notes=(f"not trained yet: {'; '.join(HOSTILE)}", "a " * 90)), Look(width))
    assert list(faults(sheet)) == []
    assert len(sheet.panels) == 2
    said = [text.get_text() for text in texts(sheet)]
    assert models[0] in said or width == 2.5
    assert "16\n4 keys" in said


def test_a_test_that_stands_alone_has_its_panel(tmp_path: Path) -> None:
    data = over_pairs(results_of(tmp_path, SEEDS))
    sheet = settled(replace(data, rows=tuple(row for row in data.rows if row.kind == "overwriting")), Look())
    assert len(sheet.panels) == 1
    low, high = sheet.panels[0].get_xlim()
    assert low < 16 < high


def test_marks_and_seeds_are_where_the_numbers_are(tmp_path: Path) -> None:
    data = over_pairs(results_of(tmp_path, {"GDN-2": (0.7, 0.8, 0.9)}))
    lines = settled(data, Look()).panels[0].get_lines()
    heights = {round(float(y), 6) for line in lines for y in line.get_ydata() if y == y}
    rows = [row for row in data.rows if row.kind == "recall"]
    assert heights == {round(100 * y, 6) for r in rows for y in (r.value, r.low, r.high, *r.seeds) if y is not None}


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_same_data_give_the_same_bytes(kind: str, tmp_path: Path) -> None:
    data = over_pairs(results_of(tmp_path, SEEDS))
    assert render("study", data, Look(6.9), kind) == render("study", data, Look(6.9), kind)


def test_a_csv_has_the_seeds_in_one_field(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(values_csv(over_pairs(results_of(tmp_path, SEEDS))))))
    assert [row["seeds"] for row in rows if row["test"] == LABELS[0]] == ["0.7; 0.8; 0.9", "0.5"]
    assert rows[-1]["low"] == ""


def test_the_command_writes_the_numbers_and_notes_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results_of(tmp_path, SEEDS)
    output = tmp_path / "a.json"
    arguments = ["plot", "study", written(tmp_path), "--results", str(tmp_path / "out"), "--output", str(output)]
    assert main(arguments) == 0
    shown = json.loads(output.read_text())
    assert len(shown["rows"]) == 8
    out, err = capsys.readouterr()
    assert out == f"{output}\n"
    assert "note: not trained yet: GLA" in err


def test_mistakes_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    study, before = written(tmp_path), set(tmp_path.iterdir())
    for arguments, line in (
        (["mqra"], "mqra: no study and no file has this name; there are "),
        ([study, "--results", "none"], "none/mini/runs: no model of the study mini has finished runs at all rates"),
        (["state-tracking"], "state-tracking.yaml: tests has no recall"),
        ([study, "--output", "a.gif"], "--output a.gif: must end in one of .png"),
    ):
        assert main(["plot", "study", *arguments]) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert line in said
    assert set(tmp_path.iterdir()) == before


def test_runs_that_choose_no_rate_yet_make_no_picture(tmp_path: Path) -> None:
    results = results_of(tmp_path, {"GDN-2": (None,)})
    with pytest.raises(UserError, match="no model of the study mini"):
        over_pairs(results)
