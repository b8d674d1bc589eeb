"""`lengths`: effective lengths of models from their records, task by task and as means over no missing cell."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import records

from harness.analysis.lengths import LengthReach, lengths_of, mean_curve
from harness.analysis.selection import FoundRun
from harness.analysis.shown import models_of, spots_of
from harness.cli.main import main
from harness.errors import UserError
from harness.records.effective import CurvePoint
from harness.records.record import FILE_NAME, Cell, Score
from harness.records.stats import wilson_interval
from harness.show.lengths import length_text, lengths_to_csv

SCORES = {
    "niah_single_1": {1024: 1.0, 2048: 0.99, 4096: 0.5, 8192: 0.9},
    "niah_single_2": {1024: 0.99, 2048: 0.9, 4096: 0.3, 8192: 0.1},
    "niah_single_3": {1024: 0.0, 2048: 0.0, 4096: 0.0},
    "niah_multikey_1": {1024: 0.5},
}


def cell(task: str, length: int, value: float) -> Cell:
    low, high = wilson_interval(round(value * 500), 500)
    return records.cell(task, length, scores={"acc": Score(value=value, unit="share", n=500, low=low, high=high)})


def run(name: str, scores: dict[str, dict[int, float]] = SCORES) -> FoundRun:
    cells = tuple(cell(task, length, value) for task, own in scores.items() for length, value in own.items())
    return FoundRun(Path(name), records.record(name, cells))


def found(*runs: FoundRun, published: tuple[str, ...] = ()) -> dict[tuple[str, str], LengthReach]:
    models = models_of([], runs)
    reaches = lengths_of(models, spots_of(models, "ruler_table3"), published)
    return {(reach.model, reach.label): reach for reach in reaches}


def test_each_task_has_both_lengths_and_a_base_of_0_has_none() -> None:
    reaches = found(run("ours"))
    texts = {label: (length_text(reach.above), length_text(reach.own)) for (_, label), reach in reaches.items()}
    assert texts == {
        "niah_single_1": ("2K*", "2K*"),
        "niah_single_2": ("2K", "2K"),
        "niah_single_3": ("<1K", "—"),
        "ruler, mean of 3": ("<1K", "2K"),
    }
    assert reaches["ours", "niah_single_1"].trained == 1024


def test_a_mean_is_of_the_lengths_that_all_its_tasks_have_and_says_which_lack_one() -> None:
    mean = found(run("ours"))["ours", "ruler, mean of 3"]
    assert [point.length for point in mean.curve] == [1024, 2048, 4096]
    assert mean.curve[0].value == pytest.approx((1.0 + 0.99) / 3)
    assert mean.notes == ("no mean at 8,192: niah_single_3 not run",)
    assert mean.base == pytest.approx((1.0 + 0.99) / 3)


def test_papers_rows_stand_beside_ours() -> None:
    reaches = found(run("ours"), published=("Mamba-2",))
    rows = {model: reach for (model, label), reach in reaches.items() if label == "niah_single_1"}
    assert list(rows) == ["ours", "Mamba-2 (recurrent)", "Mamba-2 (hybrid)"]
    assert rows["Mamba-2 (recurrent)"].published
    assert (rows["Mamba-2 (recurrent)"].above.length, rows["Mamba-2 (hybrid)"].above.length) == (4096, 2048)


def test_what_was_run_at_one_length_has_no_effective_length() -> None:
    with pytest.raises(UserError, match="ours: no task with a share of right answers was run at two lengths"):
        found(run("ours", {"niah_multikey_1": {1024: 0.5}}))


def test_the_interval_of_a_mean_is_narrower_than_those_of_its_parts() -> None:
    one = (CurvePoint(1024, 0.5, 0.4, 0.6, 100),)
    (point,) = mean_curve([one] * 4)
    assert (point.value, point.low, point.high) == pytest.approx((0.5, 0.45, 0.55))
    assert mean_curve([one, (CurvePoint(1024, 0.5),)])[0].low is None


def test_the_command_writes_every_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a|b", "evil\x1b[31m<b>"):
        folder = tmp_path / f"{len(name)}"
        folder.mkdir()
        (folder / FILE_NAME).write_text(run(name).record.to_json(), encoding="utf-8")
    where = ["lengths", "--results", str(tmp_path), "--suite", "ruler_table3"]
    assert main(where) == 0
    text = capsys.readouterr().out
    assert "trained at 1K" in text
    assert "* passes again at a longer length" in text
    assert "\x1b" not in text
    assert main([*where, "--format", "markdown"]) == 0
    text = capsys.readouterr().out
    assert "| a&#124;b | niah_single_1 | 1K to 8K | 2K&#42; | 100.0 | 2K&#42; | 1K |" in text
    assert "<b>" not in text
    assert main([*where, "--format", "csv", "--threshold", "99.5"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["above_length"], row["above_threshold"]) for row in rows[:2]] == [("1024", "0.995"), ("", "0.995")]
    assert main([*where, "--format", "json"]) == 0
    first = json.loads(capsys.readouterr().out)["lengths"][0]
    assert (first["own"]["length"], first["above"]["again"], len(first["curve"])) == (2048, [8192], 4)
    assert main([*where, "--threshold", "100"]) == 2
    assert "--threshold 100: must be below 100" in capsys.readouterr().err


def test_a_name_that_a_spreadsheet_would_compute_is_text() -> None:
    rows = list(csv.DictReader(io.StringIO(lengths_to_csv(list(found(run("=1+1")).values())))))
    assert {row["model"] for row in rows} == {"'=1+1"}


def test_a_task_with_several_metrics_is_named_with_each_and_shares_of_wrong_answers_have_no_length() -> None:
    def score(value: float, higher: bool = True) -> Score:
        return Score(value=value, unit="share", n=500, higher_is_better=higher)

    runs = [
        FoundRun(
            Path("a"),
            records.record(
                "ours",
                tuple(
                    records.cell(
                        task, length, scores={"acc": score(0.9), "recall": score(0.8), "leaked": score(1, False)}
                    )
                    for task in ("edit_forget", "edit_overwrite")
                    for length in (1024, 4096)
                ),
                suite="editing",
            ),
        )
    ]
    models = models_of([], runs)
    labels = [reach.label for reach in lengths_of(models, spots_of(models, "editing"))]
    assert labels == ["edit_overwrite", "edit_forget acc", "edit_forget recall", "editing, mean of 2"]
