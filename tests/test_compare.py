"""Models compared on the samples that both have, and never on others without a word."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compared import cell_of, run_of, samples_of, simple_run

from harness.analysis.compare import compare_runs
from harness.analysis.comparison import ModelComparison, TaskComparison
from harness.errors import UserError
from harness.records.record import Score
from harness.show.comparison import comparison_to_text
from harness.show.comparison_markdown import comparison_to_markdown

GOOD = [1.0] * 36 + [0.0] * 4
BAD = [1.0] * 20 + [0.0] * 20


def only(comparison: ModelComparison) -> TaskComparison:
    (pair,) = comparison.pairs
    (task,) = pair.tasks
    return task


def test_two_runs_are_compared_sample_by_sample(tmp_path: Path) -> None:
    task = only(compare_runs([simple_run(tmp_path, "good", GOOD), simple_run(tmp_path, "bad", BAD)]))
    assert (task.a, task.b, task.wins, task.losses, task.ties) == (0.9, 0.5, 16, 0, 24)
    assert (task.pairing, task.test) == ("sample", "McNemar, exact")
    assert task.p == pytest.approx(2**-15)
    assert task.low is not None
    assert task.high is not None
    assert task.low < 0.4 < task.high
    assert task.verdict == "A better"


def test_the_order_of_models_and_of_samples_changes_signs_only(tmp_path: Path) -> None:
    good, bad = simple_run(tmp_path, "good", GOOD), simple_run(tmp_path, "bad", BAD)
    one, other = only(compare_runs([good, bad])), only(compare_runs([bad, good]))
    assert (one.p, one.detectable, one.groups) == (other.p, other.detectable, other.groups)
    assert (one.low, one.high, one.difference) == pytest.approx(
        (-(other.high or 0), -(other.low or 0), -other.difference)
    )
    assert (one.verdict, other.verdict) == ("A better", "B better")
    turned = run_of(
        tmp_path / "turned",
        "bad",
        bad.record.cells,
        [replace(s, index=39 - s.index) for s in bad.samples["gdn2_niah_single_1_1024"]],
    )
    assert only(compare_runs([good, turned])) == one


def test_samples_of_one_side_only_are_counted_and_not_compared(tmp_path: Path) -> None:
    task = only(compare_runs([simple_run(tmp_path, "good", GOOD), simple_run(tmp_path, "bad", BAD[:25])]))
    assert (task.n_a, task.only_a, task.only_b, task.ties) == (25, 15, 0, 20)


def test_runs_that_name_samples_otherwise_are_paired_by_the_prompt(tmp_path: Path) -> None:
    theirs = simple_run(tmp_path, "theirs", BAD, sample=lambda place: f"doc{place}")
    task = only(compare_runs([simple_run(tmp_path, "good", GOOD), theirs]))
    assert (task.pairing, task.wins, task.n_a) == ("prompt", 16, 40)


def test_samples_that_another_tokenizer_filled_are_compared_unpaired_and_that_is_said(tmp_path: Path) -> None:
    other: dict[str, Any] = {
        "sample": lambda place: f"o{place}",
        "prompt": lambda place: f"q{place}",
        "tokenizer_sha256": "o" * 64,
    }
    task = only(compare_runs([simple_run(tmp_path, "good", GOOD), simple_run(tmp_path, "bad", BAD, **other)]))
    assert (task.pairing, task.test, task.wins, task.verdict) == ("unpaired", "Fisher, exact", None, "A better")
    assert any("another tokenizer" in note for note in task.notes)


def test_nothing_in_common_under_one_protocol_is_an_error_that_says_so(tmp_path: Path) -> None:
    other = simple_run(tmp_path, "bad", BAD, sample=lambda place: f"o{place}", prompt=lambda place: f"q{place}")
    with pytest.raises(UserError, match=r"good and bad: nothing that can be compared .no common sample"):
        compare_runs([simple_run(tmp_path, "good", GOOD), other])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 7}, "seed 7 instead of 42"),
        ({"version": 1.0}, "task version 1 instead of 2"),
        ({"context_prefix": "none"}, "context prefix none instead of tokenizer"),
        ({"decoding": "sampled"}, "decoding sampled instead of greedy"),
    ],
)
def test_another_protocol_is_an_error_that_says_what_differs(
    tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    good, other = simple_run(tmp_path, "good", GOOD), simple_run(tmp_path, "bad", BAD, **changes)
    with pytest.raises(UserError, match=said):
        compare_runs([good, other])
    task = only(compare_runs([good, other], anyway=True))
    assert any(said in note for note in task.notes)


def test_another_dtype_is_compared_and_noted(tmp_path: Path) -> None:
    other = simple_run(tmp_path, "bad", BAD, dtype="bfloat16")
    assert only(compare_runs([simple_run(tmp_path, "good", GOOD), other])).notes == ("bfloat16 instead of float32",)


def test_where_only_the_correction_parts_interval_and_verdict_a_line_says_in_how_many_rows(tmp_path: Path) -> None:
    runs = []
    for name, scores in (("a", [1.0] * 40), ("b", [0.0] * 6 + [1.0] * 34)):
        cells = [cell_of("niah_single_1", scores), cell_of("niah_single_2", [1.0] * 40)]
        rows = [*samples_of("gdn2_niah_single_1_1024", scores), *samples_of("gdn2_niah_single_2_1024", [1.0] * 40)]
        runs.append(run_of(tmp_path, name, cells, rows))
    said = "In 1 of 3 rows the interval leaves out 0"
    comparison = compare_runs(runs)
    task = comparison.pairs[0].tasks[0]
    assert (task.p, task.p_corrected, task.verdict) == (2**-5, 2**-4, "not told apart")
    assert (task.low or 0) > 0
    assert said in comparison_to_markdown(comparison)
    assert said in comparison_to_text(comparison)
    single = compare_runs([simple_run(tmp_path / "x", name, scores) for name, scores in (("a", GOOD), ("b", BAD))])
    assert "leaves out 0" not in comparison_to_text(single)


def test_tasks_that_only_one_has_are_an_error_where_nothing_else_is_left(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no task and length in common"):
        compare_runs([simple_run(tmp_path, "a", GOOD), simple_run(tmp_path, "b", BAD, task="niah_single_2")])
    with pytest.raises(UserError, match="nothing to compare a with"):
        compare_runs([simple_run(tmp_path / "again", "a", GOOD)])


def test_records_without_samples_are_compared_by_what_they_say(tmp_path: Path) -> None:
    bare = run_of(tmp_path, "bad", [cell_of("niah_single_1", BAD)])
    task = only(compare_runs([simple_run(tmp_path, "good", GOOD), bare]))
    assert (task.pairing, task.a, task.b, task.n_b) == ("unpaired", 0.9, 0.5, 40)
    assert task.notes == ("unpaired, by the record alone",)


def test_a_run_without_samples_is_said_once_and_short_below_the_tables(tmp_path: Path) -> None:
    cells = [cell_of(task, BAD) for task in ("niah_single_1", "niah_single_2")]
    runs = [run_of(tmp_path, name, cells) for name in ("a", "b", "c")]
    comparison = compare_runs(runs)
    assert [note.partition(": ")[0] for note in comparison.notes] == [run.record.run_id for run in runs]
    text = comparison_to_text(comparison)
    assert text.count("no samples beside the record") == 3
    assert text.index("no samples beside the record") > text.rindex("niah_single_2")
    assert text.count("unpaired, by the record alone") == 3


def test_a_mean_without_samples_goes_by_the_intervals_of_its_places(tmp_path: Path) -> None:
    tasks = ("niah_single_1", "niah_single_2")
    runs = [
        run_of(tmp_path, name, [cell_of(task, scores) for task in tasks]) for name, scores in (("a", GOOD), ("b", BAD))
    ]
    (mean,) = compare_runs(runs).pairs[0].means
    assert (mean.test, mean.verdict, mean.places) == ("normal, places independent", "A better", 2)
    assert mean.low is not None
    assert mean.high is not None
    task = compare_runs(runs).pairs[0].tasks[0]
    assert mean.high - mean.low < (task.high or 0) - (task.low or 0)


def test_equal_graded_scores_of_few_samples_prove_little(tmp_path: Path) -> None:
    scores = [0.25, 0.5, 0.75, 1.0] * 3
    task = only(compare_runs([simple_run(tmp_path, name, scores) for name in ("a", "b")]))
    assert (task.p, task.ties) == (1.0, 12)
    assert (task.low, task.high) == pytest.approx((-0.265, 0.265), abs=0.001)
    assert task.detectable is None


def test_scores_that_are_no_numbers_are_counted_and_left_out(tmp_path: Path) -> None:
    scores: list[float | None] = [*BAD[:-2], None, float("nan")]
    cell = cell_of("niah_single_1", [*BAD[:-2], None, None])
    other = run_of(tmp_path, "bad", [cell], samples_of(cell.lm_eval_name, scores))
    task = only(compare_runs([simple_run(tmp_path, "good", GOOD), other]))
    assert (task.n_a, task.unscored) == (38, 2)
    none = run_of(tmp_path, "none", [cell], samples_of(cell.lm_eval_name, [None] * 40))
    with pytest.raises(UserError, match="none of 40 common samples has a finite score"):
        compare_runs([simple_run(tmp_path / "again", "good", GOOD), none])


def test_samples_that_share_text_are_flipped_together(tmp_path: Path) -> None:
    def cluster(place: int) -> str:
        return f"text{place // 4}"

    good, bad = (simple_run(tmp_path, name, scores, cluster=cluster) for name, scores in (("g", GOOD), ("b", BAD)))
    task = only(compare_runs([good, bad]))
    assert (task.groups, task.test, task.wins) == (10, "sign flips by text", 16)
    alone = only(compare_runs([simple_run(tmp_path / "x", "g", GOOD), simple_run(tmp_path / "x", "b", BAD)]))
    assert (task.p or 0) == pytest.approx(2 * 2**-4)  # four texts of one sign
    assert (task.high or 0) - (task.low or 0) > (alone.high or 0) - (alone.low or 0)
    assert (task.detectable or 1) > (alone.detectable or 1)


def test_pairs_of_documents_are_right_if_both_are(tmp_path: Path) -> None:
    def rows(rights: list[float]) -> list[object]:
        return [{"acc": (place // 2, right)} for place, right in enumerate(rights)]

    runs = []
    for name, rights, right in (("a", [1.0, 1.0, 1.0, 1.0, 1.0], 1.0), ("b", [1.0, 0.0, 1.0, 1.0, 1.0], 0.0)):
        cell = cell_of("edit_forget", [1.0, right], 1024)
        runs.append(run_of(tmp_path, name, [cell], samples_of(cell.lm_eval_name, rows(rights))))
    task = only(compare_runs(runs))
    assert (task.n_a, task.a, task.b, task.wins, task.ties) == (2, 1.0, 0.5, 1, 1)


@pytest.mark.parametrize(("unit", "metric"), [("bits", "bits_per_byte"), ("perplexity", "word_perplexity")])
def test_texts_are_compared_by_the_ratio_of_sums_over_documents(tmp_path: Path, unit: str, metric: str) -> None:
    sizes = [10, 50, 20, 40, 30, 60, 25, 35]
    runs = []
    for name, nats in (("a", 1.0), ("b", 1.2)):
        rows = [{metric: (-nats * size * (1 + 0.01 * place), size)} for place, size in enumerate(sizes)]
        cell = cell_of("wiki_perplexity", [1.0] * 8, None)
        ratio = sum(-value for value, _ in (row[metric] for row in rows)) / sum(sizes)
        value = math.exp(ratio) if unit == "perplexity" else ratio / math.log(2)
        cell = replace(cell, scores={metric: Score(value=value, unit=unit, n=8, higher_is_better=False)})  # type: ignore[arg-type]
        runs.append(run_of(tmp_path, name, [cell], samples_of(cell.lm_eval_name, rows)))
    task = only(compare_runs(runs))
    assert (task.wins, task.losses, task.test, task.verdict) == (8, 0, "sign flips", "A better")
    assert task.p == pytest.approx(2 / 2**8)
    assert task.low is not None
    assert task.high is not None
    assert task.low < task.difference < task.high < 0


@pytest.mark.parametrize(
    ("rows", "values", "unit"),
    [
        ([[3.0, 1.0, 8.0], [1.0, 1.0, 9.0]], (3.0, 1.0), "number"),  # medians
        ([[0.9, 0.1, 0.8], [0.0, 1.0, 1.0]], (0.8, 1.0), "share"),
        ([[(1, 1), (0, 1), (1, 0)], [(1, 1), (0, 0), (1, 1)]], (0.5, 1.0), "share"),  # F1 of (right label, label given)
    ],
)
def test_a_number_that_is_no_mean_is_compared_as_the_records_say_it(
    tmp_path: Path, rows: list[list[Any]], values: tuple[float, float], unit: Any
) -> None:
    runs = []
    for name, scores, value in zip("ab", rows, values, strict=True):
        cell = cell_of("niah_single_1", [1.0] * 3)
        cell = replace(cell, scores={"acc": Score(value=value, unit=unit, n=3)})
        runs.append(run_of(tmp_path, name, [cell], samples_of(cell.lm_eval_name, scores)))
    task = only(compare_runs(runs))
    assert (task.a, task.b) == values
    assert (task.pairing, task.p, task.verdict) == ("unpaired", None, "not tested")
    assert task.notes == ("unpaired, by the record alone: acc is no mean of what its documents score",)


def test_the_same_run_on_both_sides_is_said(tmp_path: Path) -> None:
    run = simple_run(tmp_path, "a", GOOD)
    again = run_of(tmp_path / "copy", "a", run.record.cells, run.samples["gdn2_niah_single_1_1024"])
    other = replace(again, record=replace(again.record, model=replace(again.record.model, checkpoint_sha256="other")))
    comparison = compare_runs([run, other])
    assert only(comparison).verdict == "not told apart"
    assert any("are the same run" in note for note in comparison.notes)
