"""What can be compared besides single runs: seeds of a training, rows of papers, several runs, many models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from compared import cell_of, run_of, samples_of, simple_run

from gdn2.checkpoints.training import training_of
from harness.analysis.compare import compare_runs, compare_sides
from harness.analysis.comparison import ModelComparison
from harness.analysis.papers import paper_side
from harness.analysis.selection import FoundRun
from harness.analysis.sides import are_seeds, sides_of_runs, training
from harness.errors import UserError
from harness.records.record import Score
from harness.show.comparison_markdown import comparison_to_markdown
from tasks.registry import load_suite

GOOD = [1.0] * 36 + [0.0] * 4
BAD = [1.0] * 20 + [0.0] * 20


def seeds(folder: Path, name: str, rights: list[int], tasks: tuple[str, ...] = ("niah_single_1",)) -> list[FoundRun]:
    """Runs of one training's seeds with so many of 40 samples right."""
    found = []
    for seed, right in enumerate(rights):
        scores = [1.0] * right + [0.0] * (40 - right)
        cells = [cell_of(task, scores) for task in tasks]
        rows = [row for cell in cells for row in samples_of(cell.lm_eval_name, scores)]
        found.append(run_of(folder, f"{name}-s{seed}", cells, rows))
    return found


def as_training(label: str, runs: list[FoundRun]) -> Any:
    return training(label, sides_of_runs(runs))


def test_trainings_are_tested_over_their_seeds(tmp_path: Path) -> None:
    sides = [
        as_training(name, seeds(tmp_path, name, rights)) for name, rights in (("a", [34, 36, 35]), ("b", [20, 22, 21]))
    ]
    (pair,) = compare_sides(sides).pairs
    (task,) = pair.tasks
    assert (task.pairing, task.test, task.verdict) == ("seeds", "Welch over seeds", "A better")
    assert (task.seeds_a, task.n_b, task.wins) == ((0.85, 0.9, 0.875), 3, None)
    assert pair.means == ()


def test_two_seeds_say_nothing_however_many_samples_there_are(tmp_path: Path) -> None:
    sides = [as_training(name, seeds(tmp_path, name, rights)) for name, rights in (("a", [40, 40, 40]), ("b", [0, 0]))]
    (task,) = compare_sides(sides).pairs[0].tasks
    assert (task.p, task.verdict) == (None, "not tested")
    assert "nothing can be concluded" in task.test
    single = [sides[0], *sides_of_runs([simple_run(tmp_path, "one", BAD)])]
    assert compare_sides(single).pairs[0].tasks[0].verdict == "not tested"
    assert "Nothing was tested." in comparison_to_markdown(compare_sides(single))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("t@1000", "t@2000"), "t@1000, t@2000 are checkpoints of one training"),
        (("t@step-1k", "t@1.5M", "u@1000"), "t@step-1k, t@1.5M are checkpoints"),
        (("t", "u", "t@1000"), "t, t@1000 are checkpoints"),
        (("t", "t@1", "t@2", "t@3", "t@4"), "t, t@1, t@2 and 2 more are checkpoints"),
        (("t-s1@1000", "t-s2@1000", "t-s3@1000"), None),
        (("t-s1", "t-s2"), None),
    ],
)
def test_steps_of_one_training_are_no_seeds(tmp_path: Path, names: tuple[str, ...], said: str | None) -> None:
    models = sides_of_runs([simple_run(tmp_path, name, GOOD) for name in names])
    if said is None:
        assert len(training("t*", models).seeds) == len(names)
        return
    with pytest.raises(UserError, match=said):
        training("t*", models)


def test_checkpoints_of_one_recipe_and_seed_are_no_seeds_whatever_their_names(tmp_path: Path) -> None:
    runs = [
        FoundRun(run.folder, replace(run.record, model=replace(run.record.model, training="r" * 16, training_seed=1)))
        for run in (simple_run(tmp_path, "early", GOOD), simple_run(tmp_path, "late", GOOD))
    ]
    with pytest.raises(UserError, match="early, late are checkpoints of one training"):
        training("t*", sides_of_runs(runs))


def test_seeds_of_other_protocols_are_not_compared(tmp_path: Path) -> None:
    other = simple_run(tmp_path, "b-s2", BAD, seed=7)
    sides = [
        as_training("a", seeds(tmp_path, "a", [34, 36, 35])),
        as_training("b", [*seeds(tmp_path, "b", [1, 2]), other]),
    ]
    with pytest.raises(UserError, match="seed 7 instead of 42"):
        compare_sides(sides)
    assert "seed 7 instead of 42" in compare_sides(sides, anyway=True).pairs[0].tasks[0].notes[0]


def test_a_run_named_twice_is_said_and_its_sides_are_told_apart(tmp_path: Path) -> None:
    (side,) = sides_of_runs([simple_run(tmp_path, "a", GOOD)])
    comparison = compare_sides([side, side])
    assert len(set(comparison.models)) == 2
    assert "are the same run" in comparison.notes[0]
    assert comparison.pairs[0].tasks[0].verdict == "not told apart"


def test_seeds_that_are_all_alike_take_the_permutation(tmp_path: Path) -> None:
    sides = [as_training(name, seeds(tmp_path, name, [right] * 3)) for name, right in (("a", 40), ("b", 39))]
    (task,) = compare_sides(sides).pairs[0].tasks
    assert task.p == pytest.approx(0.1)
    assert task.test == "permutation of seeds, exact"


def test_the_mean_of_trainings_is_over_seeds_too(tmp_path: Path) -> None:
    tasks = ("niah_single_1", "niah_single_2")
    sides = [
        as_training(name, seeds(tmp_path, name, rights, tasks))
        for name, rights in (("a", [34, 36, 35]), ("b", [20, 22, 21]))
    ]
    (mean,) = compare_sides(sides).pairs[0].means
    assert (mean.places, mean.test, mean.verdict) == (2, "Welch over seeds", "A better")
    assert mean.difference == pytest.approx(0.35)


def test_records_say_which_models_are_seeds_of_one_training(tmp_path: Path) -> None:
    runs = []
    for seed, run in enumerate(seeds(tmp_path, "a", [30, 31, 32])):
        model = replace(run.record.model, training="r" * 16, training_seed=seed)
        runs.append(FoundRun(run.folder, replace(run.record, model=model)))
    assert are_seeds(sides_of_runs(runs))
    assert not are_seeds(sides_of_runs(runs[:1]))
    assert not are_seeds(sides_of_runs([*runs[:2], *seeds(tmp_path / "b", "b", [30])]))
    assert "training" not in json.loads(seeds(tmp_path / "c", "c", [30])[0].record.to_json())["model"]
    assert json.loads(runs[0].record.to_json())["model"]["training_seed"] == 0


def test_checkpoints_of_one_seed_each_are_said_to_be_no_trainings(tmp_path: Path) -> None:
    def run(name: str, recipe: str | None, seed: int | None) -> FoundRun:
        found = simple_run(tmp_path, name, GOOD)
        model = replace(found.record.model, training=recipe, training_seed=seed)
        return FoundRun(found.folder, replace(found.record, model=model))

    a, b, unknown = run("a", "r" * 16, 1), run("b", "s" * 16, 1), run("c", None, None)
    (said,) = compare_sides(sides_of_runs([a, b, unknown])).notes
    assert said.startswith("a, b: one seed each")
    assert not compare_sides(sides_of_runs([a, run("a2", "r" * 16, 2)])).notes
    assert not compare_sides(sides_of_runs([a, unknown])).notes


def test_a_checkpoint_says_by_which_recipe_and_seed_it_was_trained(tmp_path: Path) -> None:
    recipe = {"name": "a", "seed": 0, "stages": [{"steps": 3}], "about": "x"}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    first = training_of(tmp_path)
    file.write_text(yaml.safe_dump({**recipe, "seed": 7, "name": "b"}))
    second = training_of(tmp_path)
    file.write_text(yaml.safe_dump({**recipe, "stages": [{"steps": 4}]}))
    other = training_of(tmp_path)
    assert first is not None
    assert second is not None
    assert other is not None
    assert (first.recipe, first.seed, second.seed) == (second.recipe, 0, 7)
    assert other.recipe != first.recipe
    for broken in ("[", "- 1", "seed: x", ""):
        file.write_text(broken)
        assert training_of(tmp_path) is None
    file.unlink()
    assert training_of(tmp_path) is None


def test_a_published_row_is_compared_by_its_binomial_error_and_marked(tmp_path: Path) -> None:
    run = run_of(tmp_path, "ours", [cell_of("niah_single_2", [1.0] * 100), cell_of("wikitext", [1.0], None)])
    comparison = compare_sides([*sides_of_runs([run]), paper_side("paper:gdn2_paper/recurrent/KDA")])
    (task,) = comparison.pairs[0].tasks
    assert (task.b, task.n_b, task.pairing, task.test) == (1.0, 500, "published", "Fisher, exact")
    assert "other protocol, unpaired, taken to come from 500 samples" in task.notes[0]
    assert task.low is not None
    assert task.low < 0


def test_two_published_rows_are_compared_where_both_have_a_figure() -> None:
    names = ("paper:gdn2_paper/hybrid/KDA", "paper:gdn2_paper/recurrent/KDA")
    comparison = compare_sides([paper_side(name) for name in names], load_suite("ruler_table3"))
    (pair,) = comparison.pairs
    assert len(pair.tasks) == 14
    at = {task.place.label: task for task in pair.tasks}["niah_multikey_1@1024"]
    assert (at.a, at.b) == pytest.approx((0.914, 0.54))
    assert at.verdict == "A better"
    assert {mean.label for mean in pair.means} == {"all cells"}


def test_a_published_perplexity_has_no_error_and_is_not_tested() -> None:
    names = ("paper:gdn2_paper/hybrid/KDA", "paper:gdn2_paper/recurrent/KDA")
    comparison = compare_sides([paper_side(name) for name in names], load_suite("commonsense-gdn2"))
    verdicts = {task.place.metric: task.verdict for task in comparison.pairs[0].tasks}
    assert verdicts["word_perplexity"] == "not tested"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("paper:gdn2_paper/KDA", "which one.*paper:gdn2_paper/recurrent/KDA or paper:gdn2_paper/hybrid/KDA"),
        ("paper:gdn2_paper/recurrent/KDAA", "did you mean 'paper:gdn2_paper/recurrent/KDA' or"),
        ("paper:gdn2_paper/recurent/gated deltanet", "did you mean 'paper:gdn2_paper/recurrent/Gated DeltaNet' or"),
        ("paper:mamba", "did you mean 'paper:.*Mamba'"),
        ("paper:x", r"no such row of a paper; its files are gdn_paper, gdn2_paper \(all of them: compare paper:\)$"),
        ("paper:", "which row.*paper:gdn_paper/recurrent/RetNet, paper:"),
    ],
)
def test_a_row_that_is_not_there_is_an_error_with_those_that_are(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        paper_side(name)


def test_of_several_runs_of_a_model_the_rule_of_tables_picks(tmp_path: Path) -> None:
    old = simple_run(tmp_path, "a", BAD, day=1)
    new = simple_run(tmp_path, "a", GOOD, day=2)
    other = simple_run(tmp_path, "b", BAD)
    (task,) = compare_runs([old, new, other]).pairs[0].tasks
    assert task.a == 0.9
    (task,) = compare_runs([old, simple_run(tmp_path, "a", GOOD, day=3, seed=7), other]).pairs[0].tasks
    assert task.a == 0.5  # the newer one is of another protocol than the suite's


def many(tmp_path: Path) -> ModelComparison:
    rights = {"best": 40, "good": 36, "fair": 24, "poor": 4}
    runs = []
    for name, right in rights.items():
        scores = [1.0] * right + [0.0] * (40 - right)
        cells = [cell_of(task, scores) for task in ("niah_single_1", "niah_single_2")]
        runs.append(
            run_of(tmp_path, name, cells, [row for cell in cells for row in samples_of(cell.lm_eval_name, scores)])
        )
    return compare_runs(runs)


def test_many_models_are_compared_pair_by_pair_and_corrected_together(tmp_path: Path) -> None:
    comparison = many(tmp_path)
    assert len(comparison.pairs) == 6
    assert comparison.tests == 12
    by_name = {(pair.a, pair.b): pair for pair in comparison.pairs}
    assert by_name["best", "poor"].count("A better") == 2
    assert by_name["best", "good"].count("not told apart") == 2
    task = by_name["good", "fair"].tasks[0]
    assert task.p is not None
    assert task.p_corrected is not None
    assert task.p < task.p_corrected
    assert by_name["best", "poor"].means[0].verdict == "A better"


def test_a_text_that_two_tasks_ask_about_is_flipped_once(tmp_path: Path) -> None:
    runs = []
    for name, scores in (("a", [1.0] * 8), ("b", [0.0] * 8)):
        cells = [cell_of(task, scores) for task in ("niah_single_1", "niah_single_2")]
        runs.append(
            run_of(tmp_path, name, cells, [row for cell in cells for row in samples_of(cell.lm_eval_name, scores)])
        )
    (mean,) = compare_runs(runs).pairs[0].means
    assert mean.p == pytest.approx(2 / 2**8)  # samples of one hash in both tasks: eight groups, not sixteen


def test_where_lower_is_better_the_verdict_and_the_mean_turn(tmp_path: Path) -> None:
    runs = []
    for name, scores in (("a", GOOD), ("b", BAD)):
        cell = cell_of("niah_single_1", scores)
        stale = Score(value=sum(scores) / 40, unit="share", n=40, higher_is_better=False)
        cells = [replace(cell, scores={"acc": stale}), cell_of("niah_single_2", scores)]
        runs.append(
            run_of(tmp_path, name, cells, [row for each in cells for row in samples_of(each.lm_eval_name, scores)])
        )
    pair = compare_runs(runs).pairs[0]
    assert [task.verdict for task in pair.tasks] == ["B better", "A better"]
    assert pair.means[0].difference == pytest.approx(0)
