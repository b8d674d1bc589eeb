"""The picture of a study of languages: accuracy over lengths, beside recall where a study has both."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from drawn_studies import ROWS, SEEDS, TESTS, results_of, settled
from pictures import faults, texts

from harness.analysis.picture_data import PictureData
from harness.show.plots.look import MARKERS, OKABE_ITO, Look
from harness.study.curves import StudyRow, over_tests
from harness.study.plan import load_study
from harness.study.results import StudyResults

ROOT = Path(__file__).resolve().parent.parent
PARITY = {"language": "parity", "rows": 32}
SUMS = {"language": "arithmetic", "rows": 32}
LENGTHS = [{**PARITY, "length": 40}, {**PARITY, "length": 10}, {**PARITY, "length": 20}]
TRAIN = [
    {**PARITY, "length": 20, "shortest": 3},
    {**PARITY, "length": 8},
    {**SUMS, "length": 400},
    {**ROWS, "keys": 2},
]
TIED = [f"model {number}" for number in range(11)]


def data_of(folder: Path, tests: list[dict[str, Any]], **seeds: Any) -> PictureData[StudyRow]:
    return over_tests(results_of(folder, seeds or SEEDS, tests=tests, train=TRAIN))


def lines_at(axes: Any, way: str) -> dict[float, Any]:
    """The straight lines across the whole panel, by place, each with its style."""
    found = {}
    for line in axes.get_lines():
        along, at = (line.get_xdata(), line.get_ydata()) if way == "across" else (line.get_ydata(), line.get_xdata())
        if [*along] == [0, 1]:
            found[float(at[0])] = line.get_linestyle()
    return found


def marks_of(axes: Any) -> list[list[float]]:
    """Where the marks of each model are, along the x axis."""
    return [[float(x) for x in line.get_xdata()] for line in axes.get_lines() if line.get_marker() in [*MARKERS]]


def test_a_language_has_its_lengths_its_chance_and_the_longest_length_in_training(tmp_path: Path) -> None:
    rows = [row for row in data_of(tmp_path, LENGTHS).rows if row.model == "GDN-2"]
    assert [(row.kind, row.length, row.size, row.test) for row in rows] == [
        ("parity", 10, 10, "parity @10"), ("parity", 20, 20, "parity @20"), ("parity", 40, 40, "parity @40"),
    ]  # fmt: skip
    assert {(row.keys, row.writes, row.trained, row.chance) for row in rows} == {(None, None, 20, 0.5)}
    assert rows[-1].seeds == (0.7, 0.8, 0.9)
    (last,) = {row.trained for row in data_of(tmp_path, [{**SUMS, "length": 9}]).rows}
    assert last == 400


def test_recall_and_languages_have_panels_in_one_order_and_kinds_of_rows_their_own(tmp_path: Path) -> None:
    tests: list[dict[str, Any]] = [
        {**SUMS, "length": 9}, *LENGTHS, *TESTS, {**PARITY, "length": 10, "asked": "every"},
        {**PARITY, "length": 20, "shortest": 3}, {**PARITY, "length": 20, "shortest": 5},
        {**PARITY, "length": 10, "shortest": 10},
    ]  # fmt: skip
    data = data_of(tmp_path, tests, GLA=(1.0,))
    kinds = ["recall", "overwriting", "arithmetic", "parity", "parity, every token", "parity, up to a length"]
    assert data.values("kind") == kinds
    sheet = settled(data, Look(6.9))
    said = {text.get_text() for text in texts(sheet)}
    assert {"arithmetic modulo five", "parity of bits", "parity of bits, every token", "3–20, 5–20"} <= said
    assert [axes.get_xlabel() for axes in sheet.panels][:3] == [
        "pairs", "writes, and keys among them", "length of a row (tokens)",
    ]  # fmt: skip


def test_a_panel_has_ticks_at_its_lengths_and_lines_at_chance_and_training(tmp_path: Path) -> None:
    recall, _, parity = settled(data_of(tmp_path, [*TESTS, *LENGTHS]), Look()).panels
    assert parity.get_xscale() == "log"
    assert [*parity.get_xticks()] == [10, 20, 40]
    assert [label.get_text() for label in parity.get_xticklabels()] == ["10", "20", "40"]
    assert lines_at(parity, "across").keys() == {50.0}
    assert lines_at(parity, "upright") == {20.0: "--"}
    assert not lines_at(recall, "across")
    assert not lines_at(recall, "upright")


def test_a_length_in_training_beyond_all_tests_widens_no_axis(tmp_path: Path) -> None:
    sheet = settled(data_of(tmp_path, [{**SUMS, "length": 9}]), Look())
    assert not lines_at(sheet.panels[0], "upright")
    assert lines_at(sheet.panels[0], "across").keys() == {20.0}
    said = [text.get_text() for text in texts(sheet)]
    assert "chance" in said
    assert "longest length in training" not in said


@pytest.mark.parametrize("width", [2.5, 3.3, 6.9])
@pytest.mark.parametrize("tests", [LENGTHS, [*TESTS, *LENGTHS, {**SUMS, "length": 9}]])
def test_no_text_is_cut_off_or_over_another(tests: list[dict[str, Any]], width: float, tmp_path: Path) -> None:
    one = data_of(tmp_path, tests)
    rows = tuple(replace(row, model=model) for model in TIED for row in one.rows if row.model == "GDN-2")
    assert list(faults(settled(replace(one, rows=rows), Look(width, width < 5)))) == []


@pytest.mark.parametrize("value", [1.0, 0.5])
@pytest.mark.parametrize("count", [2, 11])
def test_models_that_tie_stand_apart_and_nearer_to_their_test_than_to_another(
    value: float, count: int, tmp_path: Path
) -> None:
    one = data_of(tmp_path, LENGTHS)
    rows = tuple(replace(row, model=model, value=value) for model in TIED[:count] for row in one.rows[:3])
    marks = marks_of(settled(replace(one, rows=rows), Look()).panels[0])
    assert len(marks) == count
    tests = [sorted(places) for places in zip(*marks, strict=True)]
    apart = [after / before for places in tests for before, after in pairwise(places)]
    between = [after[0] / before[-1] for before, after in pairwise(tests)]
    assert 1 < min(apart) <= max(apart) < min(between)


@pytest.mark.parametrize("dark", [False, True])
def test_no_two_models_have_one_colour_and_one_mark(dark: bool) -> None:
    names = [f"{number}" for number in range(len(OKABE_ITO) * len(MARKERS))]
    strokes = Look(dark=dark).strokes(names).values()
    assert len({(stroke.color, stroke.marker) for stroke in strokes}) == len(names)


def test_a_model_called_as_a_line_keeps_its_place_in_the_legend(tmp_path: Path) -> None:
    one = data_of(tmp_path, LENGTHS)
    named = replace(one, rows=tuple(replace(row, model="chance") for row in one.rows[:3]))
    (legend,) = settled(named, Look()).figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["chance", "longest length in training", "chance"]


def test_shipped_runs_of_parity_are_drawn_as_they_are() -> None:
    study = load_study("state-tracking")
    folder = ROOT / "results/studies/state-tracking"
    data = over_tests(StudyResults(study, folder, print))
    assert data.values("model") == list(study.models)
    assert [row.length for row in data.rows] == [40, 160, 256, 512] * len(study.models)
    assert data.notes == ()
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "runs").glob("*.json"))]
    for row in data.rows:
        own = [r for r in found if (r["run"]["model"], r["run"]["learning_rate"]) == (row.model, row.rate)]
        asked = [test["accuracy"] for r in own for test in r["tests"] if test["label"] == row.test]
        assert sorted(row.seeds) == sorted(asked)


@pytest.mark.parametrize("tests", [1, 3])
def test_a_model_alone_stands_at_its_tests(tests: int, tmp_path: Path) -> None:
    one = data_of(tmp_path, LENGTHS)
    alone = [row for row in one.rows if row.model == "GDN-2"][:tests]
    (marks,) = marks_of(settled(replace(one, rows=tuple(alone)), Look()).panels[0])
    assert marks == [row.size for row in alone]
