"""What a study concludes: over seeds, corrected, and with what makes a comparison an unequal one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scipy.stats import t, ttest_ind, ttest_ind_from_stats
from studies import ROWS, finished, results_of, write

from gdn2.train.synthetic.recall import Recall
from harness.errors import UserError
from harness.show.study import notes, study_markdown
from harness.study.plan import load_study
from harness.study.results import StudyResults
from harness.study.summary import capacity, spread, summarise

TESTS = [Recall(**ROWS), Recall(**{**ROWS, "keys": 4})]
Values = dict[str, list[tuple[float, float]]]


def study_of(folder: Path, values: Values, **more: Any) -> StudyResults:
    """A study at one rate whose models have these accuracies, a pair a seed; `more` is in every result."""
    fields = {name: {"layers": "gdn2", "num_heads": 1 + number} for number, name in enumerate(values)}
    results = results_of(folder, rates=[0.01], models=fields)
    for model, pairs in values.items():
        for seed, pair in enumerate(pairs, start=1):
            run = results.grid[model, 0.01, seed]
            results.found[run.identity] = finished(run, 1.0, pair) | {"curve": [{"validation_loss": 1.0}] * 5} | more
    return results


def test_conclusions_are_over_seeds_and_corrected(tmp_path: Path) -> None:
    results = results_of(tmp_path, rates=[0.01])
    own, other = [(0.99, 0.5), (0.995, 0.6), (1.0, 0.4)], [(0.5, 0.5), (0.51, 0.55), (0.52, 0.45)]
    for seed in (1, 2, 3):
        for model, values in (("GDN-2", own), ("KDA", other)):
            run = results.grid[model, 0.01, seed]
            results.found[run.identity] = finished(run, 1.0, values[seed - 1])
    reference, kda = summarise(results)
    assert not reference.differences
    easy, hard = kda.differences["2 pairs @16"], kda.differences["4 pairs @16"]
    p = float(ttest_ind([0.5, 0.51, 0.52], [0.99, 0.995, 1.0], equal_var=False).pvalue)
    assert easy.p == pytest.approx(p)
    assert easy.corrected == pytest.approx(2 * p)
    assert easy.is_real
    assert easy.value == pytest.approx(-0.485)
    assert not hard.is_real
    tests = [Recall(**ROWS), Recall(**{**ROWS, "keys": 4})]
    assert (capacity(reference, tests), capacity(kda, tests)) == (2, 0)


def test_models_are_compared_with_another_than_the_files_reference(tmp_path: Path) -> None:
    study = load_study(str(write(tmp_path)))
    assert (study.reference, study.against("KDA").reference) == ("GDN-2", "KDA")
    assert study.against("KDA").models == study.models
    with pytest.raises(UserError, match=r"--reference must be one of GDN-2, KDA, got 'kda'; did you mean 'KDA'"):
        study.against("kda")


def test_runs_that_shared_a_device_are_said_to(tmp_path: Path) -> None:
    results = results_of(tmp_path)
    run = results.to_do()[0]
    for together, said in ((1, False), (2, True)):
        results.found[run.identity] = {**finished(run, 1.0), "together": together}
        assert ("Times are those of up to 2 runs that shared a device." in notes(results, [])) is said


def test_the_interval_of_a_mean_is_students() -> None:
    found = spread([0.4, 0.5, 0.6])
    reach = float(t.ppf(0.975, 2)) * 0.1 / 3**0.5
    assert found.low == pytest.approx(0.5 - reach)
    assert found.high == pytest.approx(0.5 + reach)
    assert spread([0.5]).low is None


def test_differences_are_scipys_with_two_seeds_or_three_and_with_one_side_that_does_not_vary(tmp_path: Path) -> None:
    values: Values = {
        "ours": [(0.9, 1.0), (0.91, 1.0), (0.95, 1.0)],
        "two": [(0.5, 0.9), (0.6, 0.95)],
        "one": [(0.5, 0.9)],
        "still": [(0.7, 1.0), (0.7, 1.0), (0.7, 1.0)],
    }
    _, two, one, still = summarise(study_of(tmp_path, values))
    found = [
        float(ttest_ind([0.5, 0.6], [0.9, 0.91, 0.95], equal_var=False).pvalue),
        float(ttest_ind_from_stats(0.7, 0.0, 3, 0.92, 0.0007**0.5, 3, equal_var=False).pvalue),
    ]
    assert [model.differences["2 pairs @16"].p for model in (two, still)] == pytest.approx(found)
    hard = ttest_ind_from_stats(0.925, 0.05 / 2**0.5, 2, 1.0, 0.0, 3, equal_var=False).pvalue
    assert two.differences["4 pairs @16"].p == pytest.approx(float(hard))
    assert all(difference.p is None for difference in one.differences.values())
    assert still.differences["4 pairs @16"].p is None  # neither side varies
    tested = sorted([*found, float(hard)])
    corrected = sorted(
        difference.corrected
        for model in (two, still)
        for difference in model.differences.values()
        if difference.corrected is not None
    )
    stepped = [min(1.0, p * (6 - rank)) for rank, p in enumerate(tested)]  # of three models and two tests
    assert corrected == pytest.approx([max(stepped[: rank + 1]) for rank in range(3)])


def test_models_that_are_not_trained_yet_count_in_the_correction(tmp_path: Path) -> None:
    values: Values = {"ours": [(0.9, 0.5), (0.91, 0.6), (0.92, 0.7)], "other": [(0.8, 0.5), (0.82, 0.6), (0.81, 0.7)]}
    p = float(ttest_ind([0.9, 0.91, 0.92], [0.8, 0.82, 0.81], equal_var=False).pvalue)
    untrained: Values = {name: [] for name in "abcdefg"}
    for more, tests in (({}, 2), (untrained, 16)):
        _, other = summarise(study_of(tmp_path, values | more))
        assert other.differences["2 pairs @16"].corrected == pytest.approx(tests * p)


def test_the_error_behind_a_mean_is_not_cut_where_its_interval_is(tmp_path: Path) -> None:
    results = study_of(tmp_path, {"ours": [(0.99, 0.0), (0.995, 0.0), (1.0, 0.9)]})
    (ours,) = summarise(results)
    found = ours.tests["2 pairs @16"]
    reach = float(t.ppf(0.975, 2)) * 0.005 / 3**0.5
    assert found.reach == pytest.approx(reach)
    assert found.low == pytest.approx(0.995 - reach)
    assert found.high == 1
    assert f"| 99.5 ± {100 * reach:.1f} | 30.0 ± 129.1 |" in study_markdown(results, TESTS)


def test_a_size_is_held_if_every_test_of_it_is(tmp_path: Path) -> None:
    """Sixteen pairs in a short row and a long one are one size."""
    (ours,) = summarise(study_of(tmp_path, {"ours": [(1.0, 0.5)]}))
    short, long = TESTS
    assert capacity(ours, [short]) == 2
    assert capacity(ours, [short, long]) == 2
    assert capacity(ours, [long, short]) == 2
    same = Recall(**{**ROWS, "length": 32})
    assert capacity(ours, [short, same]) == 0  # that test is missing
    assert capacity(ours, [Recall(**{**ROWS, "keys": 1, "writes": 2})]) is None


def test_what_is_not_equal_is_said(tmp_path: Path) -> None:
    pairs = [(0.5, 0.5), (0.6, 0.5), (0.7, 0.6)]
    results = study_of(tmp_path, {"ours": pairs, "larger": pairs[:2], "grows": pairs, "alike": pairs})
    for model, change in (
        ("ours", {"parameters": 1000}),
        ("larger", {"parameters": 1021}),
        ("grows", {"parameters": 979, "state_floats": [None]}),
        ("alike", {"parameters": 1020, "converged": False}),
    ):
        for seed in (1, 2, 3):
            if (found := results.result(model, 0.01, seed)) is not None:
                found.update(change)
    said = notes(results, TESTS)
    assert "Fewer than 3 seeds: larger (2)." in said
    assert "Parameters differ from those of ours by more than 2%: larger (+2.1%); grows (-2.1%)." in said
    assert "State differs from that of ours: grows (grows)." in said
    assert "The validation loss still fell at the end: alike (3 of 3 seeds)." in said


def test_a_loss_that_was_looked_at_four_times_is_not_said_to_have_fallen(tmp_path: Path) -> None:
    curve = {"curve": [{"validation_loss": 1.0}] * 4, "converged": False}
    said = notes(study_of(tmp_path, {"ours": [(0.5, 0.5)]}, **curve), TESTS)
    assert "Looked at too seldom to say whether the validation loss still fell: ours." in said
    assert not [line for line in said if line.startswith("The validation loss")]
