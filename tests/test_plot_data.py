"""The data behind pictures: the leaderboard's numbers, exact, or a line that says why there are none."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import records
from pictures import needles, run_of, save

from harness.analysis import shown
from harness.analysis.compare import compare_runs
from harness.analysis.curves import beside_state, by_position, over_length, over_steps
from harness.analysis.depths import by_depth, has_mean_depths, mean_depths_note
from harness.analysis.matrix import mean_differences
from harness.analysis.norm_grid import by_layer
from harness.analysis.picture_data import PictureData
from harness.analysis.score_rows import LengthRow
from harness.analysis.selection import FoundRun, find_runs, without_those_apart
from harness.analysis.shown import Model, models_of, spots_of, trained_lengths
from harness.analysis.verdict_shares import by_verdict
from harness.errors import UserError
from harness.paths import LEADERBOARD
from harness.records.columns import TableColumn
from harness.records.leaderboard import build_table
from harness.records.model_info import StateNorms
from harness.records.record import Score
from harness.show.plots.values import values_csv, values_json
from tasks.registry import Column, Suite, load_suite
from tasks.verdicts import Verdict

LENGTHS = (1024, 2048, 4096)
SUITE = "ruler_table3"


def needle_run(name: str, *values: float, task: str = "niah_single_1", **changes: object) -> FoundRun:
    return run_of(name, {(task, length): value for length, value in zip(LENGTHS, values, strict=False)}, **changes)


def test_points_over_length_are_the_numbers_of_the_leaderboard() -> None:
    runs = without_those_apart(find_runs([LEADERBOARD]), SUITE)
    models = models_of([], runs)
    data = over_length(models, spots_of(models, SUITE))
    table = build_table(load_suite(SUITE), [(run.folder, run.record) for run in runs], published=False)
    shown = {
        (row.name, column.task, column.length): (entry.value, entry.low, entry.n)
        for row in table.rows
        for column, entry in zip(load_suite(SUITE).columns, row.entries, strict=True)
        if entry is not None
    }
    drawn = {
        (row.model, row.task, row.length): (row.value * 100, None if row.low is None else row.low * 100, row.n)
        for row in data.rows
    }
    assert drawn == shown


def test_of_several_runs_the_one_that_the_leaderboard_chooses_is_drawn_unless_one_is_named() -> None:
    few = records.record("a", (records.cell(value=0.9, samples=10, scores={"acc": score(0.9, 10)}),), run_id="a/few")
    many = records.record("a", (records.cell(value=0.4),), run_id="a/many")
    runs = [FoundRun(Path("few"), few), FoundRun(Path("many"), many)]
    assert [row.value for row in rows_over_length(models_of([], runs))] == [0.4]
    assert [row.value for row in rows_over_length(models_of(["few"], runs))] == [0.9]
    both = models_of(["few", "many"], runs)
    assert [model.title for model in both] == ["a few", "a many"]
    assert [row.value for row in rows_over_length(both)] == [0.9, 0.4]
    assert len(models_of(["a", "a"], runs)) == 1


def score(value: float, n: int) -> Score:
    return Score(value=value, unit="share", n=n, low=0.0, high=1.0)


def rows_over_length(models: list[Model]) -> list[LengthRow]:
    return list(over_length(models, spots_of(models, None)).rows)


def test_checkpoints_of_one_name_are_told_apart() -> None:
    runs = [needle_run("a", 0.5, model=records.model(sha), run_id=f"a/{sha}") for sha in ("123456789", "abcdefghi")]
    assert [model.title for model in models_of([], runs)] == ["a (123456)", "a (abcdef)"]


def test_published_rows_have_the_binomial_interval_of_their_suites_samples() -> None:
    models = models_of([], [needle_run("a", 0.5, 0.5)])
    data = over_length(models, spots_of(models, SUITE), ["Gated DeltaNet-2"])
    printed = [row for row in data.rows if row.published]
    assert {row.model for row in printed} == {"Gated DeltaNet-2 (recurrent)", "Gated DeltaNet-2 (hybrid)"}
    first = printed[0]
    assert (first.value, first.n, first.high) == (1.0, 500, 1.0)
    assert first.low == pytest.approx(1 / (1 + 1.959963984540054**2 / 500))
    assert {row.length for row in printed} == {1024, 2048}  # where ours are
    assert "500 samples" in data.notes[0]
    with pytest.raises(
        UserError, match="--published Mambo: no published row of these tasks has this name; did you mean 'Mamba-2'"
    ):
        over_length(models, spots_of(models, SUITE), ["Mambo"])


def test_depths_are_tenths_of_the_context_and_sum_to_the_cell(tmp_path: Path) -> None:
    cell = records.cell(value=0.5, scores={"acc": score(0.5, 6)}, samples=6)
    samples = needles(cell, [(0.0, True), (0.09, False), (0.1, True), (0.3, False), (0.99, True), (1.0, False)])
    run = save(tmp_path / "run", records.record("a", (cell,)), samples)
    models = models_of([], [run])
    rows = by_depth(models, spots_of(models, None)).rows
    assert [(row.begin, row.end, row.n, row.value) for row in rows] == [
        (0.0, 0.1, 2, 0.5),
        (0.1, 0.2, 1, 1.0),
        (0.3, 0.4, 1, 0.0),
        (0.9, 1.0, 2, 0.5),
    ]
    assert sum(row.n * row.value for row in rows) / sum(row.n for row in rows) == 0.5
    odd = [replace(sample, scores={"acc": math.nan}) if sample.index < 2 else sample for sample in samples]
    models = models_of([], [save(tmp_path / "odd", records.record("a", (cell,)), odd)])
    assert [row.n for row in by_depth(models, spots_of(models, None)).rows] == [1, 1, 2]


@pytest.mark.parametrize(
    ("task", "references", "is_mean"),
    [
        ("niah_multiquery", ("1", "2"), True), ("vt", ("A", "B"), True), ("qa_2", ("x",), True),
        ("edit_forget", (), True),
        ("niah_multikey_1", ("1",), False), ("qa_1", ("spelt", "so"), False), ("edit_overwrite", ("1",), False),
    ],
)  # fmt: skip
def test_depths_that_are_means_of_several_places_are_said_to_be(
    task: str, references: tuple[str, ...], is_mean: bool, tmp_path: Path
) -> None:
    cell = records.cell(task, value=1.0, scores={"acc": score(1.0, 1)}, samples=1)
    samples = [replace(sample, references=references) for sample in needles(cell, [(0.5, True)])]
    assert has_mean_depths(task, samples) == is_mean
    assert not has_mean_depths(task, [replace(sample, depth=None) for sample in samples])
    models = models_of([], [save(tmp_path / "run", replace(records.record("a", (cell,)), suite="tasks"), samples)])
    notes = by_depth(models, spots_of(models, None)).notes
    assert notes == ((mean_depths_note([task]),) if is_mean else ())


def test_a_run_with_samples_stands_in_for_one_without_and_a_note_says_so(tmp_path: Path) -> None:
    cell = records.cell(value=1.0, scores={"acc": score(1.0, 1)}, samples=1)
    old = save(tmp_path / "old", records.record("a", (records.cell(),), run_id="a/old"))
    new = save(tmp_path / "new", records.record("a", (cell,), run_id="a/new"), needles(cell, [(0.5, True)]))
    models = models_of([], [old, new])
    data = by_depth(models, spots_of(models, None))
    assert [row.source for row in data.rows] == ["a/new"]
    assert data.notes == ("a/old: no samples beside the record; shown is a/new",)
    with pytest.raises(UserError, match=r"a: no run has samples\.jsonl\.gz with depths"):
        by_depth(models_of([], [old]), spots_of(models, None))


def test_broken_samples_of_one_run_are_named_and_hide_no_other(tmp_path: Path) -> None:
    cell = records.cell(value=1.0, scores={"acc": score(1.0, 1)}, samples=1)
    runs = [
        save(tmp_path / name, records.record(name, (cell,), run_id=f"{name}/x"), needles(cell, [(0.5, True)]))
        for name in ("good", "bad")
    ]
    (runs[1].folder / "samples.jsonl.gz").write_bytes(b"no gzip")
    models = models_of([], runs)
    data = by_depth(models, spots_of(models, None))
    assert [row.model for row in data.rows] == ["good"]
    assert "samples.jsonl.gz: cannot be read" in data.notes[0]
    with pytest.raises(UserError, match=r"bad: no run has .* \(.*bad/samples\.jsonl\.gz: cannot be read"):
        by_depth(models[:1] if models[0].title == "bad" else models[1:], spots_of(models, None))


def test_the_state_of_attention_is_that_of_the_length() -> None:
    growing = records.model("b", state_bytes=8, state_bytes_a_token=100)
    runs = [needle_run("a", 0.5, 0.5), needle_run("b", 0.9, 0.9, 0.9, model=growing)]
    models = models_of([], runs)
    data = beside_state(models, spots_of(models, None), None)
    assert [(row.model, row.length, row.state_bytes) for row in data.rows] == [("a", 2048, 5), ("b", 2048, 204_808)]
    assert any("b: its state grows with every token" in note for note in data.notes)
    unknown = needle_run("c", 0.5, model=records.model("c", state_bytes=None, state_bytes_a_token=None))
    with pytest.raises(UserError, match="c: no score at --length any of a model whose state is known"):
        beside_state(models_of([], [unknown]), spots_of(models, None), None)
    longest = beside_state(models, spots_of(models, None), 4096)
    assert [row.state_bytes for row in longest.rows] == [409_608]
    assert longest.notes[-1].startswith("a: not run at 4,096 tokens")
    with pytest.raises(UserError, match=r"no score at --length 512 of .*; there are scores at 1024, 2048, 4096"):
        beside_state(models, spots_of(models, None), 512)


def test_positions_are_buckets_from_where_the_one_before_ends() -> None:
    bits = {f"bits_{end}": Score(value=end / 1000, unit="bits", n=3) for end in (256, 512, 1024)}
    cell = records.cell("essay_positions", 1024, scores={"bits_per_byte": Score(value=1, unit="bits", n=3), **bits})
    models = models_of([], [FoundRun(Path("a"), records.record("a", (cell,), suite="tasks"))])
    rows = by_position(models, spots_of(models, None)).rows
    assert [(row.begin, row.end, row.value) for row in rows] == [(0, 256, 0.256), (256, 512, 0.512), (512, 1024, 1.024)]
    with pytest.raises(UserError, match="no run has bits per byte by position"):
        by_position(models_of([], [needle_run("a", 0.5)]), spots_of(models, None))
    needles = models_of([], [needle_run("a", 0.5)])
    with pytest.raises(UserError, match="no run has bits per byte by position"):
        by_position(needles, spots_of(needles, None))


@pytest.mark.parametrize(("name", "step"), [("m@20", 20), ("m@step20", 20), ("m@step-20", 20), ("m@2k", 2000)])
def test_checkpoints_of_a_training_are_known_by_their_names(name: str, step: int) -> None:
    models = models_of([], [needle_run(name, 0.5), needle_run("m", 0.5)])
    data = over_steps(models, spots_of(models, None))
    assert [(row.training, row.step) for row in data.rows] == [("m", step)]
    assert data.notes == ("left out, not called NAME@STEP: m",)


def test_steps_are_in_order_whatever_the_order_of_names() -> None:
    models = models_of([], [needle_run(f"m@{step}", 0.5) for step in (1000, 200, 30)])
    assert [row.step for row in over_steps(models, spots_of(models, None)).rows] == [30, 200, 1000]
    with pytest.raises(UserError, match="checkpoints of one training are called NAME@STEP"):
        over_steps(models_of([], [needle_run("m", 0.5)]), spots_of(models, None))


def test_the_length_in_training_is_not_that_of_the_command() -> None:
    runs = [needle_run("a", 0.5), needle_run("b", 0.5, command=("run", "--max-length", "1024"))]
    assert trained_lengths(models_of([], runs)) == {"a": 1024}


def test_tasks_are_chosen_by_name_length_and_pattern() -> None:
    models = models_of([], [needle_run("a", 0.5, 0.5), needle_run("b", 0.1, 0.2, task="niah_single_2")])
    keys = [spot.key[:2] for spot in spots_of(models, SUITE, ["niah_single_2@2048", "niah_multi*@4096"])]
    assert keys == [("niah_single_2", 2048), ("niah_multikey_1", 4096)]
    with pytest.raises(UserError, match="--tasks nih: no column of ruler_table3 is of it; there are 'niah_single_1', "):
        spots_of(models, SUITE, ["nih"])


def test_no_runs_and_no_lengths_are_named() -> None:
    with pytest.raises(UserError, match="there are no runs yet"):
        models_of([], [])
    models = models_of([], [run_of("a", {})])
    with pytest.raises(UserError, match="a: no task with a length was run"):
        over_length(models, spots_of(models, None))


def test_data_are_written_exactly_and_what_is_no_number_is_null_and_no_name_a_formula() -> None:
    said: dict[str, Any] = {"task": "t", "metric": "acc", "unit": "share", "n": 1, "source": "s", "length": 1}
    row = LengthRow(**said, model="=a,b\n", value=math.nan, low=None, high=0.1 + 0.2)
    data = PictureData("length", (row,))
    read = json.loads(values_json(data))["rows"][0]
    assert (read["value"], read["low"], read["high"], read["model"]) == (None, None, 0.1 + 0.2, "=a,b\n")
    line = next(csv.DictReader(io.StringIO(values_csv(data))))
    assert (line["value"], line["high"], line["model"]) == ("", "0.30000000000000004", "'=a,b\\x0a")


def test_verdicts_are_counted_by_length_and_only_where_there_are_some(tmp_path: Path) -> None:
    cell = records.cell(value=0.5, scores={"acc": score(0.5, 4)}, samples=4)
    samples = needles(cell, [(0.5, True), (0.5, True), (0.5, False), (0.5, False)])
    verdicts: list[Verdict | None] = ["right", "right", "echo", None]
    judged = [replace(sample, verdict=verdict) for sample, verdict in zip(samples, verdicts, strict=True)]
    models = models_of([], [save(tmp_path / "run", records.record("a", (cell,)), judged)])
    rows = by_verdict(models, spots_of(models, None)).rows
    assert [(row.verdict, row.count, row.n, row.length) for row in rows] == [
        ("right", 2, 3, 1024),
        ("echo", 1, 3, 1024),
    ]
    plain = models_of([], [save(tmp_path / "other", records.record("b", (cell,)), samples)])
    with pytest.raises(UserError, match="b: no run has samples with verdicts"):
        by_verdict(plain, spots_of(plain, None))


def test_norms_are_the_largest_of_all_runs_and_older_records_are_named() -> None:
    def norms(*rows: tuple[float | None, ...]) -> StateNorms:
        return StateNorms(layers=(0, 2), positions=(64, 128), norms=rows)

    made = [norms((1.0, 5.0), (3.0, None)), norms((2.0, 4.0), (None, 7.0)), None]
    runs = [
        needle_run(name, 0.5, run_id=f"{name}/{number}", model=records.model(name, state_norms=said))
        for number, (name, said) in enumerate(zip(("a", "a", "old"), made, strict=True))
    ]
    data = by_layer(models_of([], runs))
    assert [(row.layer, row.position, row.norm, row.source) for row in data.rows] == [
        (0, 64, 2.0, "a/1"),
        (0, 128, 5.0, "a/0"),
        (2, 64, 3.0, "a/0"),
        (2, 128, 7.0, "a/1"),
    ]
    assert data.notes == ("old: its records have no norms by layer",)
    with pytest.raises(UserError, match=r"old: no record has norms of states by layer \(model\.state_norms\)"):
        by_layer(models_of(["old"], runs))


def test_a_matrix_has_the_means_that_compare_has(tmp_path: Path) -> None:
    cells = [records.cell(length=length, value=0.5, samples=40) for length in LENGTHS[:2]]
    runs = []
    for name, right in (("a", 36), ("b", 12)):
        samples = [sample for cell in cells for sample in needles(cell, [(0.5, place < right) for place in range(40)])]
        scored = tuple(replace(cell, scores={"acc": score(right / 40, 40)}) for cell in cells)
        runs.append(save(tmp_path / name, records.record(name, scored, run_id=f"{name}/x"), samples))
    models = models_of([], runs)
    (row,) = mean_differences(models, ()).rows
    mean = compare_runs(runs).pairs[0].means[0]
    assert (row.a, row.b, row.difference, row.p_corrected) == ("a", "b", mean.difference, mean.p_corrected)
    assert row.difference == pytest.approx(0.6)
    assert row.told_apart
    (one,) = mean_differences(models, spots_of(models, SUITE, ["niah_single_1@1024"])).rows
    assert one.places == 1
    assert one.difference == pytest.approx(0.6)
    with pytest.raises(UserError, match="nothing to compare a with"):
        mean_differences(models[:1], ())


def test_a_column_is_looked_up_once_for_all_models(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [needle_run(f"model-{number}", 0.5, 0.4, 0.3) for number in range(5)]
    models, looked_up = models_of([], runs), []
    resolve = shown.resolved_column

    def counted(suite: Suite, column: Column) -> TableColumn:
        looked_up.append(column)
        return resolve(suite, column)

    monkeypatch.setattr(shown, "resolved_column", counted)
    spots = spots_of(models, SUITE)
    assert len(over_length(models, spots).rows) == 5 * len(LENGTHS)
    assert len(looked_up) == len(spots)
