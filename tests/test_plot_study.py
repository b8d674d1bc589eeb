"""The picture of a study: exact numbers over seeds, and what there is none of by name."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from drawn_studies import LABELS, SEEDS, results_of, settled, written
from pictures import HOSTILE, faults, texts
from scipy.stats import t

from gdn2.train.rivals.plan import shipped_rivals
from harness.cli.main import main
from harness.errors import UserError
from harness.show.plots.look import Look
from harness.show.plots.registry import render
from harness.show.plots.values import values_csv
from harness.study.curves import over_tests

ROOT = Path(__file__).resolve().parent.parent


def test_the_numbers_are_means_over_seeds_with_students_interval_in_the_order_of_the_file(tmp_path: Path) -> None:
    data = over_tests(results_of(tmp_path, SEEDS))
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
    data = over_tests(results_of(tmp_path, {"GDN-2": (0.7, None, 0.9)}))
    assert data.rows[0].seeds == pytest.approx((0.5, 0.7))
    assert "GDN-2, rate 0.01, seed 2 failed: the loss is no number" in data.notes


def test_names_with_commas_in_them_are_told_apart_in_notes(tmp_path: Path) -> None:
    data = over_tests(results_of(tmp_path, {"KDA, named in full": (0.5,), "GLA": (0.5,)}))
    assert "KDA, named in full; GLA: 1 of 3 seeds" in data.notes


def test_models_are_chosen_by_name_or_pattern_and_nothing_is_said_of_others(tmp_path: Path) -> None:
    results = results_of(tmp_path, {**SEEDS, "GLA": (0.7, None, 0.9)})
    data = over_tests(results, ["kda*", "GDN-2"])
    assert data.values("model") == ["GDN-2", "KDA, named in full"]
    assert not any("GLA" in note for note in data.notes)
    with pytest.raises(UserError, match=r"--models Mamba: the study has no such model; there are 'GDN-2', 'KDA, named"):
        over_tests(results, ["kda*", "Mamba"])


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


@pytest.mark.parametrize("width", [2.5, 3.3, 6.9])
@pytest.mark.parametrize("models", [("GDN-2",), ("GDN-2, one erase gate a head (mean)", *HOSTILE)])
def test_no_text_is_cut_off_or_over_another(models: tuple[str, ...], width: float, tmp_path: Path) -> None:
    one = over_tests(results_of(tmp_path, {"GDN-2": (0.7, 0.8, 0.9)}))
    rows = tuple(replace(row, model=model) for model in models for row in one.rows)
    sheet = settled(replace(one, rows=rows, notes=(f"not trained yet: {'; '.join(HOSTILE)}", "a " * 90)), Look(width))
    assert list(faults(sheet)) == []
    assert len(sheet.panels) == 2
    said = [text.get_text() for text in texts(sheet)]
    assert models[0] in said or width == 2.5
    assert "16\n4 keys" in said


def test_a_test_that_stands_alone_has_its_panel(tmp_path: Path) -> None:
    data = over_tests(results_of(tmp_path, SEEDS))
    sheet = settled(replace(data, rows=tuple(row for row in data.rows if row.kind == "overwriting")), Look())
    assert len(sheet.panels) == 1
    low, high = sheet.panels[0].get_xlim()
    assert low < 16 < high


def test_marks_and_seeds_are_where_the_numbers_are(tmp_path: Path) -> None:
    data = over_tests(results_of(tmp_path, {"GDN-2": (0.7, 0.8, 0.9)}))
    lines = settled(data, Look()).panels[0].get_lines()
    heights = {round(float(y), 6) for line in lines for y in line.get_ydata() if y == y}
    rows = [row for row in data.rows if row.kind == "recall"]
    assert heights == {round(100 * y, 6) for r in rows for y in (r.value, r.low, r.high, *r.seeds) if y is not None}


def test_models_of_a_test_stand_in_its_band_and_no_two_bands_overlap(tmp_path: Path) -> None:
    one = over_tests(results_of(tmp_path, {"GDN-2": (0.7, 0.8, 0.9)}))
    recall = [row for row in one.rows if row.kind == "recall"]
    rows = [replace(row, keys=keys, writes=keys) for row, keys in zip(recall, (8, 9, 64), strict=True)]
    models = [f"model {number}" for number in range(7)]
    data = replace(one, rows=tuple(replace(row, model=model) for model in models for row in rows))
    (axes,) = settled(data, Look(6.9)).panels
    bands = sorted((patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches)
    assert len(bands) == len(rows)
    assert all(end < start for (_, end), (start, _) in pairwise(bands))
    marks = [float(x) for line in axes.get_lines() for x in line.get_xdata() if line.get_marker() not in ("None", ".")]
    assert len(marks) == len(models) * len(rows)
    for start, end in bands:
        assert sum(start < mark < end for mark in marks) == len(models)


def test_a_model_by_itself_has_no_bands(tmp_path: Path) -> None:
    sheet = settled(over_tests(results_of(tmp_path, {"GDN-2": (0.7, 0.8, 0.9)})), Look(6.9))
    assert not any(axes.patches for axes in sheet.panels)
    assert not any("band" in text.get_text() for text in texts(sheet))


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_same_data_give_the_same_bytes(kind: str, tmp_path: Path) -> None:
    data = over_tests(results_of(tmp_path, SEEDS))
    assert render("study", data, Look(6.9), kind) == render("study", data, Look(6.9), kind)


def test_a_csv_has_the_seeds_in_one_field(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(values_csv(over_tests(results_of(tmp_path, SEEDS))))))
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
    shipped = shipped_rivals()["text-4m"].read_text(encoding="utf-8")
    Path("text.yaml").write_text(shipped.replace("suite: rivals\n", "").replace("text-4m", "few"), encoding="utf-8")
    before.add(tmp_path / "text.yaml")
    for arguments, line in (
        (["mqra"], "mqra: no study and no file has this name; did you mean 'mqar'"),
        ([study, "--results", "none"], "none/mini/runs: no model of the study mini has finished runs at all rates"),
        ([study, "--results", "none"], f"`study {study} --output none` does them"),
        (
            ["state-tracking"],
            "`study state-tracking --output results/studies` does them, or --results names the folder",
        ),
        (["text-4m"], "`plot length --seeds --suite rivals --results runs/text-4m/results` draws them"),
        (["text.yaml", "--models", "x"], "`plot length --seeds --results runs/few/results` draws them"),
        ([study, "--output", "a.gif"], "--output a.gif: must end in one of .png"),
    ):
        assert main(["plot", "study", *arguments]) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert line in said
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("seeds", "patterns", "line"),
    [
        ({"GDN-2": (None,)}, [], "no model of the study mini has finished runs at all rates; `study "),
        ({"GDN-2": (None,), "GLA": (0.5,)}, ["GDN*"], "GDN-2: failed at every rate (the loss is no number); `study "),
        (SEEDS, ["GLA"], "GLA: no finished runs at all rates, which `study "),
        (SEEDS, ["GLA"], "; there are those of GDN-2; KDA, named in full"),
    ],
)
def test_where_there_is_nothing_to_draw_is_said_what_there_is_and_what_to_do(
    seeds: dict[str, Any], patterns: list[str], line: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        over_tests(results_of(tmp_path, seeds), patterns)
    assert line in str(caught.value)


def test_runs_that_failed_at_every_rate_are_done_again_by_retry(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mini\.yaml --output .*out --retry` does the runs again"):
        over_tests(results_of(tmp_path, {"GDN-2": (None,)}), ["GDN-2"])
