"""Pictures of trainings: the mean of the seeds that records name, with an interval over them, and what is left out."""

from __future__ import annotations

import csv
import io
import json

import pytest
import records
from pictures import run_of

from harness.analysis.curves import over_length
from harness.analysis.seed_means import over_seeds
from harness.analysis.shown import Model, models_of, spots_of
from harness.errors import UserError
from harness.show.plots.values import values_csv, values_json


def seeds_of(name: str, *values: dict[int, float], recipe: str | None) -> list[Model]:
    """Models of one recipe, a seed each, with these scores by length."""
    runs = []
    for seed, scores in enumerate(values, 1):
        title = f"{name}-seed{seed}" if seed > 1 else name
        info = records.model(title, training=recipe, training_seed=None if recipe is None else seed)
        runs.append(run_of(title, {("niah_single_1", at): value for at, value in scores.items()}, model=info))
    return models_of([], runs)


THREE = seeds_of("a", {1024: 0.9, 2048: 0.5}, {1024: 0.7, 2048: 0.5}, {1024: 0.8}, recipe="r" * 16)
TWO = seeds_of("b", {1024: 0.2}, {1024: 0.4}, recipe="q" * 16)
OTHER = seeds_of("c", {1024: 0.6, 2048: 0.1}, recipe=None)


def test_a_training_is_one_line_with_students_interval_from_three_seeds_on() -> None:
    models = [*THREE, *TWO, *OTHER]
    data = over_seeds(over_length(models, spots_of(models, "ruler_table3")), models)
    shown = {(row.model, row.length): row for row in data.rows}
    assert set(shown) == {("a", 1024), ("b", 1024), ("c", 1024), ("c", 2048)}
    mean, reach = shown["a", 1024], 4.302652729696142 * 0.1 / 3**0.5
    assert (mean.value, mean.low, mean.high) == pytest.approx((0.8, 0.8 - reach, 1))
    assert (mean.n, mean.source.count("; ")) == (500, 2)
    assert shown["b", 1024].value == pytest.approx(0.3)
    assert shown["b", 1024].low is None
    assert shown["c", 1024].low is not None
    assert data.notes == (
        "means over the seeds of trainings: a (3), b (2); bands are Student's intervals over them",
        "no interval, fewer than 3 seeds: b",
        "left out where a seed has no number: a",
    )
    assert set(data.trained) == {"a", "b", "c"}


def test_the_numbers_behind_a_picture_have_how_many_seeds_a_mean_is_of() -> None:
    models = [*THREE, *TWO, *OTHER]
    single = over_length(models, spots_of(models, "ruler_table3"))
    means = over_seeds(single, models)
    expected = {("a", 1024): 3, ("b", 1024): 2, ("c", 1024): None, ("c", 2048): None}
    rows = json.loads(values_json(means))["rows"]
    assert {(row["model"], row["length"]): row["num_seeds"] for row in rows} == expected
    lines = list(csv.DictReader(io.StringIO(values_csv(means))))
    assert [line["num_seeds"] for line in lines] == [
        "" if row["num_seeds"] is None else str(row["num_seeds"]) for row in rows
    ]
    assert all(list(row)[-1] == "num_seeds" for row in (*rows, *lines))
    assert "num_seeds" not in json.loads(values_json(single))["rows"][0]  # nothing there is a mean
    assert "num_seeds" not in values_csv(single).splitlines()[0].split(",")


def test_a_note_speaks_of_bands_only_where_there_are_some() -> None:
    assert notes_of(TWO) == ("means over the seeds of trainings: b (2)", "no interval, fewer than 3 seeds: b")
    alike = seeds_of("d", *[{1024: 0.5, 2048: value} for value in (0.1, 0.2, 0.3)], recipe="p" * 16)
    assert notes_of([*TWO, *alike]) == (
        "means over the seeds of trainings: b (2), d (3); bands are Student's intervals over them",
        "no interval, fewer than 3 seeds: b",
        "no interval where all seeds are alike: d",
    )


def notes_of(models: list[Model]) -> tuple[str, ...]:
    return over_seeds(over_length(models, spots_of(models, "ruler_table3")), models).notes


@pytest.mark.parametrize("models", [OTHER, THREE[:1], [THREE[0], TWO[1]]], ids=["no recipe", "one seed", "two recipes"])
def test_models_that_are_no_seeds_are_refused_by_name(models: list[Model]) -> None:
    with pytest.raises(UserError, match=rf"--seeds: of {models[0].title}.* no two are seeds of one training"):
        over_seeds(over_length(models, spots_of(models, "ruler_table3")), models)
