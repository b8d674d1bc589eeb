"""Suites that stand apart: their own runs alone in their tables, and these in no other table that nobody asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from compared import cell_of, run_of, samples_of

from harness.analysis.compare import compare_sides
from harness.analysis.curves import over_length
from harness.analysis.lengths import lengths_of
from harness.analysis.report import make_report
from harness.analysis.selection import FoundRun, find_runs, select_runs, without_those_apart
from harness.analysis.shown import models_of, spots_of
from harness.analysis.sides import Side, sides_of_runs, training
from harness.cli import main as cli
from harness.errors import UserError
from harness.records.apart import suites_apart, whose_columns_first
from tasks.registry import load_suite

TASK = "niah_single_1"
RIVALS = load_suite("rivals")
OWN, OTHER = [1.0] + [0.0] * 3, [1.0] * 3 + [0.0]
"""Answers in runs of the suite that stands apart, 25 %, and in those of another, 75 %."""


def ask(folder: Path, name: str, suite: str, day: int, seed: int = 1) -> None:
    """A run at two lengths: of rivals in bfloat16 and older, of others in float32."""
    scores = OWN if suite == "rivals" else OTHER
    cells = [cell_of(TASK, scores, length) for length in (1024, 2048)]
    samples = [sample for cell in cells for sample in samples_of(cell.lm_eval_name, scores)]
    made = run_of(folder, name, cells, samples, suite=suite, day=day, dtype="bfloat16" if scores is OWN else "float32")
    model = replace(made.record.model, training=name.partition("-")[0], training_seed=seed)
    (made.folder / "record.json").write_text(replace(made.record, model=model).to_json())


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two seeds of `a` and one of `b` among rivals, `a-1` on ruler_table3 too, and `other` on that alone."""
    for day, (name, suite, seed) in enumerate(
        (
            ("a-1", "rivals", 1),
            ("a-2", "rivals", 2),
            ("b-1", "rivals", 1),
            ("b-2", "rivals", 2),
            ("a-1", "ruler_table3", 1),
            ("other", "ruler_table3", 1),
        ),
        start=1,
    ):
        ask(tmp_path, name, suite, day, seed)
    return tmp_path


def board(results: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, set[float]]:
    """The numbers of each row, by its name."""
    arguments = ["leaderboard", "--results", str(results), "--no-published", "--format", "json", *options]
    assert cli.main(arguments) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    return {row["model"]: {cell["value"] for cell in row["cells"].values() if cell} for row in rows}


@pytest.mark.parametrize("models", [(), ("a-1", "b-1"), ("a-*",), ("*",)])
def test_its_table_has_its_own_runs_alone_whoever_is_named(
    results: Path, capsys: pytest.CaptureFixture[str], models: tuple[str, ...]
) -> None:
    named = ("--models", *models) if models else ()
    rows = board(results, capsys, "--suite", "rivals", *named)
    assert "other" not in rows
    assert set(rows) >= {"a-1"}
    assert all(values == {0.25} for values in rows.values())


def test_the_mean_of_seeds_is_of_its_own_runs(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = board(results, capsys, "--suite", "rivals", "--seeds", "--models", "a-*")
    assert rows == {"a, mean": {0.25}, "a-1": {0.25}, "a-2": {0.25}}


def test_other_tables_have_its_runs_where_they_are_named_and_the_suites_own_runs_first(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert board(results, capsys) == {"a-1": {0.75}, "other": {0.75}}
    assert board(results, capsys, "--models", "a-*") == {"a-1": {0.75}, "a-2": {0.25}}


def test_a_suite_of_ones_own_that_stands_apart_has_its_own_runs_alone(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = f"[{{task: {TASK}, length: 1024, metric: acc, samples: 4, label: 1K, group: needles}}]"
    file = results / "mine.yaml"
    file.write_text(f"suite: mine\ndescription: d\napart: true\ncolumns: {columns}\n")
    ask(results, "c-1", "mine", 7)
    assert board(results, capsys, "--suite", str(file)) == {"c-1": {0.75}}


def test_a_table_without_a_number_says_where_numbers_are(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["leaderboard", "--results", str(results), "--no-published"]
    assert cli.main([*arguments, "--suite", "rivals", "--models", "other"]) == 0
    said = "left out: 1 run of ruler_table3: no number for the columns of rivals, which has its own runs alone\n"
    assert capsys.readouterr().err == said
    assert cli.main(["leaderboard", "--results", str(results / "b-1"), "--no-published"]) == 0
    said = "left out: 1 run of rivals: no number for the columns of ruler_table3; --suite rivals has its own\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("names", [(), ("a-1", "b-*", "other")])
def test_a_report_of_it_has_its_own_runs_alone(results: Path, names: tuple[str, ...]) -> None:
    report = make_report(RIVALS, find_runs([results]), names, on_problem=pytest.fail)
    assert {"a-1", "b-1"} <= {entrant.title for entrant in report.entrants} <= {"a-1", "a-2", "b-1", "b-2"}
    assert {run.suite for entrant in report.entrants for run in entrant.runs} == {"rivals"}
    assert {row.name for row in report.table.rows} == {entrant.title for entrant in report.entrants}
    assert report.comparison is not None
    assert all(task.a == task.b == 0.25 for pair in report.comparison.pairs for task in pair.tasks)


def drawn(results: Path, suite: str | None, *names: str) -> dict[str, set[float]]:
    models = models_of(names, find_runs([results]), None, suite)
    found: dict[str, set[float]] = {}
    for row in over_length(models, spots_of(models, suite)).rows:
        found.setdefault(row.model, set()).add(row.value)
    return found


def test_pictures_and_lengths_of_it_have_its_own_runs_alone(results: Path) -> None:
    its = {"a-1": {0.25}, "a-2": {0.25}, "b-1": {0.25}, "b-2": {0.25}}
    assert drawn(results, "rivals") == drawn(results, "rivals", "*") == its
    models = models_of(["a-1"], find_runs([results]), None, "rivals")
    (reach,) = lengths_of(models, spots_of(models, "rivals"))
    assert [point.value for point in reach.curve] == [0.25, 0.25]


def test_pictures_of_other_suites_and_of_none_have_its_runs_where_they_are_named(results: Path) -> None:
    for suite in ("ruler_table3", None):
        assert drawn(results, suite) == {"a-1": {0.75}, "other": {0.75}}
        assert drawn(results, suite, "a-*", "other") == {"a-1": {0.75}, "a-2": {0.25}, "other": {0.75}}
    assert drawn(results, None, "a-1", "b-1") == {"a-1": {0.25}, "b-1": {0.25}}
    assert drawn(results / "b-1", None) == {"b-1": {0.25}}


def sides(results: Path, *names: str) -> list[Side]:
    runs = find_runs([results])
    return [side for name in names for side in sides_of_runs(select_runs(name, runs))]


def compared(results: Path, suite: str | None, *names: str) -> list[tuple[str, str, float, float]]:
    comparison = compare_sides(sides(results, *names), None if suite is None else load_suite(suite))
    return [(pair.a, pair.b, task.a, task.b) for pair in comparison.pairs for task in pair.tasks[:1]]


def test_models_are_compared_over_it_by_its_own_runs_alone(results: Path) -> None:
    assert compared(results, "rivals", "a-1", "b-1") == [("a-1", "b-1", 0.25, 0.25)]
    assert compared(results, "rivals", "a-1", "b-1", "other") == [("a-1", "b-1", 0.25, 0.25)]
    with pytest.raises(UserError, match="no task and length in common; run both on one suite"):
        compared(results, "rivals", "a-1", "other")


def test_models_that_meet_in_it_alone_are_compared_there_and_others_where_they_meet(results: Path) -> None:
    assert compared(results, None, "a-1", "b-1") == [("a-1", "b-1", 0.25, 0.25)]
    for names in (("a-1", "other"), ("other", "a-1")):
        assert compared(results, None, *names) == [(*names, 0.75, 0.75)]
    assert compared(results, None, "b-1", "other") == [("b-1", "other", 0.25, 0.75)]


def test_a_comparison_is_called_by_the_suites_of_its_numbers(results: Path) -> None:
    titles = {
        names: compare_sides(sides(results, *names)).title
        for names in (("a-1", "b-1"), ("a-1", "other"), ("b-1", "other"))
    }
    assert list(titles.values()) == ["rivals", "ruler_table3", "rivals, ruler_table3"]


def test_trainings_are_compared_over_it_by_its_own_runs_alone(results: Path) -> None:
    for suite in (RIVALS, None):
        trainings = [training(name, sides(results, f"{name}-*")) for name in ("a", "b")]
        (pair,) = compare_sides(trainings, suite).pairs
        assert [(task.seeds_a, task.seeds_b) for task in pair.tasks] == [((0.25, 0.25), (0.25, 0.25))] * 2


def test_whose_columns_come_first() -> None:
    table, quick = load_suite("ruler_table3"), load_suite("quick")

    def first(*models: set[str]) -> list[tuple[str, bool]]:
        return [(suite.name, suite.apart) for suite in whose_columns_first([RIVALS, table, quick], models)]

    assert first({"rivals"}, {"rivals", "quick"}) == [("rivals", True), ("ruler_table3", False), ("quick", False)]
    for models in ([{"rivals", "quick"}], [{"rivals", "quick"}, {"rivals", "quick", "ruler_table3"}]):
        assert first(*models) == [("quick", False), ("rivals", True), ("ruler_table3", False)]
    assert first({"rivals"}, {"quick"}) == [("ruler_table3", False), ("quick", False), ("rivals", False)]
    assert whose_columns_first([table, quick], [{"quick"}]) == [table, quick]


def test_what_nobody_names_is_left_out_where_there_is_something_else(results: Path) -> None:
    def names(runs: list[FoundRun], suite: str | None) -> set[str]:
        return {run.record.suite for run in without_those_apart(runs, suite)}

    runs = find_runs([results])
    assert names(runs, None) == names(runs, "quick") == {"ruler_table3"}
    assert names(runs, "rivals") == {"rivals"}
    only = [run for run in runs if run.record.suite == "rivals"]
    assert names(only, None) == {"rivals"}
    assert names(only, "quick") == set()
    assert suites_apart(["rivals", "quick", "unheard-of"]) == {"rivals"}
    others = [run for run in runs if run.record.suite == "ruler_table3"]
    assert names(others, "rivals") == set()
    for few, suite, said in ((only, "quick", "unless they are named"), (others, "rivals", "has its own runs alone")):
        with pytest.raises(UserError, match=f"--suite {suite}: none of . runs of .*, (which )?{said}"):
            models_of([], few, None, suite)
        with pytest.raises(UserError, match=f"--suite {suite}: none of . runs of .*, (which )?{said}"):
            make_report(load_suite(suite), few, on_problem=pytest.fail)
