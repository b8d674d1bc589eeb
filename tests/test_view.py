"""What of a table is shown, and in which order: models, columns, sorting, groups, steps, names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from records import cell, model, place, record

from harness.errors import UserError
from harness.records.leaderboard import build_table
from harness.records.record import RunRecord
from harness.records.row_names import read_row_names
from harness.records.steps import step_of
from harness.records.table import Table
from harness.records.view import View, natural
from harness.show.intervals import interval_parts
from tasks.registry import load_suite

SUITE = load_suite("ruler_table3")


def scored(name: str, *values: float, **changes: Any) -> RunRecord:
    """A model with these scores at 1K, 2K and so on of the first task."""
    cells = tuple(cell(length=1024 * 2**place, value=value) for place, value in enumerate(values))
    return record(name, cells, run_id=f"{name}/x", **changes)


def table_of(*runs: RunRecord, published: bool = False, **view: Any) -> Table:
    return build_table(SUITE, [place(run) for run in runs], published, view=View(**view))


def names(table: Table) -> list[tuple[str, list[str]]]:
    return [(section.title, [row.name for row in section.rows]) for section in table.sections()]


THREE = (scored("a-1", 0.5, 0.9), scored("b", 0.7), scored("c", 0.6, 0.1))


def test_models_are_chosen_by_name_and_by_pattern_published_ones_too() -> None:
    table = table_of(*THREE, published=True, models=("A-*", "c", "papers, hybrid/KDA"))
    assert names(table) == [("this harness", ["a-1", "c"]), ("papers, hybrid", ["KDA"])]
    assert [note for note in table.notes if "published" in note] == table.notes


def test_marks_are_those_of_the_rows_that_are_shown() -> None:
    best = {row.name: entry.is_best for row in table_of(*THREE, models=("a-1", "c")).rows if (entry := row.entries[0])}
    assert best == {"a-1": False, "c": True}


def test_a_pattern_that_means_nothing_is_an_error_with_what_there_is() -> None:
    with pytest.raises(UserError, match=r"--models 'x\*': no row is called so; there are 'a-1', 'b', 'c'$"):
        table_of(*THREE, models=("b", "x*"))
    with pytest.raises(UserError, match=r"--columns 'S-NIAH-9': no column is called so; did you mean 'S-NIAH-1' or"):
        table_of(*THREE, columns=("S-NIAH-9",))
    with pytest.raises(UserError, match=r"--models 'b': no row is called so; there are none$"):
        table_of(models=("b",))
    many = [scored(f"run-{number:03}", 0.5) for number in range(30)]
    with pytest.raises(UserError, match=r"no row is called so; did you mean 'run-001'"):
        table_of(*many, models=("Rum-001",))


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("S-NIAH-1", 4),
        ("s-niah-1 1k", 1),
        ("4K", 4),
        ("niah_single_1@8192", 1),
        ("niah_single_1@8K", 1),
        ("*single*", 11),
    ],
)
def test_columns_are_chosen_by_group_label_task_and_length(pattern: str, count: int) -> None:
    table = table_of(*THREE, published=True, columns=(pattern,))
    assert len(table.headers) == count
    assert {len(row.entries) for row in table.rows} == {count}


def test_what_is_said_below_is_of_what_is_shown() -> None:
    older = scored("b", 0.1, 0.2, started="2025-01-01T00:00:00+00:00")
    odd = record("c", (cell(seed=7), cell(length=2048)))
    table = table_of(THREE[1], older, odd, columns=("2K",))
    assert [row.name for row in table.rows] == ["b", "c"]
    assert table.passed == []
    assert table.notes == []
    assert table_of(THREE[1], older, models=("c*", "b")[1:]).passed == ["b: one cell of the run b/x (older)"]


def test_rows_are_sorted_within_their_groups_and_what_lacks_the_number_is_last() -> None:
    table = table_of(*THREE, published=True, sort="niah_single_1@2048")
    assert names(table)[0] == ("this harness", ["a-1", "c", "b"])
    first = [row.entries[1] for row in table.rows if row.section == "papers, hybrid"]
    values = [entry.value for entry in first if entry]
    assert values == sorted(values, reverse=True)
    assert names(table_of(scored("m10", 0.1), scored("M2", 0.2), sort="name")) == [("this harness", ["M2", "m10"])]


def test_perplexity_is_sorted_from_the_least() -> None:
    suite = load_suite("commonsense-gdn2")
    rows = build_table(suite, [], view=View(sort="wiki_ppl")).rows
    assert [row.name for row in rows][:2] == ["Gated DeltaNet-2", "Mamba-3 (SISO)"]
    assert build_table(suite, [], view=View(sort="average")).rows[0].name == "Gated DeltaNet-2"


def test_a_sort_that_means_several_columns_or_none_is_an_error() -> None:
    with pytest.raises(UserError, match=r"--sort 'S-NIAH-1': several columns .* one of niah_single_1@1024, "):
        table_of(*THREE, sort="S-NIAH-1")
    with pytest.raises(UserError, match=r"--sort 'average': no column is called so; there are 'name', 'niah_"):
        table_of(*THREE, sort="average")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a@2000", ("a", 2000)), ("a@2k", ("a", 2000)), ("a@1.5M", ("a", 1.5e6)), ("a@b@3K", ("a@b", 3000)),
        ("a@step-20", ("a", 20)), ("a@2k (abc)", ("a (abc)", 2000)), ("a", None), ("a@", None), ("@5", None),
        ("a@2kk", None), ("a@-", None), ("a@٣", None), ("o/n@main", None),
    ],
)  # fmt: skip
def test_a_step_is_read_from_a_name(name: str, found: tuple[str, float] | None) -> None:
    assert step_of(name) == found


def test_checkpoints_of_one_training_are_rows_in_the_order_of_steps_below_its_name() -> None:
    runs = [scored(name, 0.5) for name in ("t@10k", "t@500", "t@2K", "t", "lone@7", "u@1M", "u@900k")]
    table = table_of(*runs, sort="name")
    assert names(table) == [
        ("this harness", ["lone@7", "t"]),
        ("t, by step", ["step 500", "step 2K", "step 10k"]),
        ("u, by step", ["step 900k", "step 1M"]),
    ]
    assert [(row.model, row.training, row.step) for row in table.rows][2:4] == [
        ("t@500", "t", 500),
        ("t@2K", "t", 2000),
    ]
    assert [row.full_name for row in table.rows] == ["lone@7", "t", "t@500", "t@2K", "t@10k", "u@900k", "u@1M"]


def test_a_file_renames_and_groups_rows(tmp_path: Path) -> None:
    (tmp_path / "names.yaml").write_text(
        "rename: {a-1: Ours, t: Long run, elsewhere: E}\n"
        "groups:\n"
        "  - {title: first, models: [c, 'a-*']}\n"
        "  - {title: hybrids, models: ['papers, hybrid/Mamba-2', Mamba-2]}\n"
    )
    other = record("elsewhere", (cell("squad_retrieval", None),), suite="other")
    runs = (*THREE, scored("t@2k", 0.1), scored("t@1k", 0.1), other)
    table = table_of(
        *runs, published=True, names=read_row_names(tmp_path / "names.yaml"), models=("?", "a-1", "t", "M*2")
    )
    assert names(table) == [
        ("first", ["c", "Ours"]),
        ("hybrids", ["Mamba-2 (papers, hybrid)", "Mamba-2 (papers, recurrent)"]),
        ("this harness", ["b"]),
        ("Long run, by step", ["step 1k", "step 2k"]),
    ]
    assert [row.model for row in table.rows][:2] == ["c", "a-1"]
    assert [row.full_name for row in table.rows][-2:] == ["Long run@1k", "Long run@2k"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r": must be a mapping of fields, got None"),
        ("[]", r": must be a mapping of fields, got \[\]"),
        ("{}", r": says nothing; it takes rename, groups"),
        ("renames: {}", r": unknown field 'renames'; did you mean 'rename'"),
        ("rename: [a]", r": rename: must be a mapping"),
        ("rename: {a-1: 5}", r": rename\.a-1: must be text"),
        ("rename: {a-1: ''}", r": rename\.a-1: must be text"),
        ("rename: {1: x}", r": rename: a name: must be text"),
        ("rename: {x: y}", r": rename: no model is called 'x'; there are 'a-1', 'b', 'c', .*'papers, [a-z]+/"),
        ("rename: {a-1: x, b: x}", r": rename: 'a-1', 'b' would all be called 'x'"),
        ("rename: {a-1: b}", r": rename\.a-1: another model is called 'b' already"),
        ("rename: {a-1: x, a-1: y}", r":1:\d+: not valid YAML: the field 'a-1' is given twice"),
        ("groups: {}", r": groups: must be a list"),
        ("groups: [5]", r": groups\[0\]: must be a mapping"),
        ("groups: [{title: x}]", r": groups\[0\]: field 'models' is missing"),
        ("groups: [{models: [b]}]", r": groups\[0\]: field 'title' is missing"),
        ("groups: [{title: 5, models: [b]}]", r": groups\[0\]\.title: must be text"),
        ("groups: [{title: x, models: b}]", r": groups\[0\]\.models: must be a list that is not empty"),
        ("groups: [{title: x, models: []}]", r": groups\[0\]\.models: must be a list that is not empty"),
        ("groups: [{title: x, models: [1]}]", r": groups\[0\]\.models\[0\]: must be text"),
        ("groups: [{title: x, models: [b], n: 1}]", r": groups\[0\]: unknown field 'n'"),
        ("groups: [{title: x, models: [zz*]}]", r": groups\[0\]\.models: no model is called 'zz\*'"),
        ("groups: [{title: x, models: [b]}, {title: x, models: [c]}]", r": groups: two have the title 'x'"),
        ("groups: [{title: x, models: [b]}, {title: y, models: [b]}]", r": groups: 'b' is listed twice"),
        ("rename: {a: &a [*a]}", r":1:\d+: not valid YAML"),
        ("\x00", r"names\.yaml"),
    ],
)
def test_a_mistake_in_that_file_is_named_with_file_and_field(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "names.yaml").write_text(text)
    with pytest.raises(UserError, match=r"names\.yaml" + message.removeprefix(r"names\.yaml")) as error:
        table_of(*THREE, names=read_row_names(tmp_path / "names.yaml"))
    assert "\n" not in str(error.value)


def test_weights_that_share_a_name_are_chosen_and_renamed_together_or_apart(tmp_path: Path) -> None:
    runs = [scored("a", 0.5, model=model(digit * 64)) for digit in "ef"]
    assert len(table_of(*runs, models=("a",)).rows) == 2
    assert [row.name for row in table_of(*runs, models=("a (eeeeee)",)).rows] == ["a (eeeeee)"]
    (tmp_path / "names.yaml").write_text("rename: {a (eeeeee): first, a (ffffff): second}\n")
    renamed = table_of(*runs, names=read_row_names(tmp_path / "names.yaml"))
    assert [row.name for row in renamed.rows] == ["first", "second"]


def test_numbers_in_names_are_sorted_by_their_size() -> None:
    assert sorted(["m10", "m9", "M1b", "m", "10", "007"], key=natural) == ["007", "10", "m", "M1b", "m9", "m10"]


def seeds_of(name: str, *values: float, seeds: tuple[int, ...] = (1, 2), recipe: str = "r" * 16) -> list[RunRecord]:
    """Models of one recipe, a seed each, with these scores at 1K."""
    return [
        scored(f"{name}-s{seed}", value, model=model(f"{name}{seed}{value}", training=recipe, training_seed=seed))
        for seed, value in zip(seeds, values, strict=False)
    ]


def test_seeds_of_one_recipe_stand_below_their_mean_which_has_neither_interval_nor_mark() -> None:
    runs = [*seeds_of("b", 0.9, 0.1, seeds=(2, 1)), *seeds_of("a", 0.2, 0.4, recipe="q" * 16), scored("lone", 0.8)]
    assert [row.name for row in table_of(*runs).rows] == ["a-s1", "a-s2", "b-s1", "b-s2", "lone"]
    table = table_of(*runs, scored("other", 0.7), seeds="all")
    shown = {row.name: entry for row in table.rows if (entry := row.entries[0])}
    assert list(shown) == ["a-s, mean", "a-s1", "a-s2", "b-s, mean", "b-s1", "b-s2", "lone", "other"]
    assert [round(entry.value, 9) for entry in shown.values()] == [30, 20, 40, 50, 10, 90, 80, 70]
    assert (shown["b-s, mean"].low, shown["b-s, mean"].n, shown["b-s1"].n) == (None, None, 500)
    assert [name for name, entry in shown.items() if entry.is_best or entry.is_second] == ["lone"]
    assert any("compare --seeds" in sentence for sentence in table.explained)


def test_the_mean_of_three_seeds_has_students_interval_within_what_a_share_can_be() -> None:
    runs = [*seeds_of("a", 0.9, 0.7, 0.8, seeds=(1, 2, 3)), *seeds_of("b", 1, 0.9, 0, seeds=(1, 2, 3), recipe="q" * 16)]
    table = table_of(*runs, scored("lone", 0.1), seeds="means")
    shown = {row.name: entry for row in table.rows if (entry := row.entries[0])}
    assert list(shown) == ["a-s, mean", "b-s, mean", "lone"]
    mean = shown["a-s, mean"]
    reach = 4.302652729696142 * 10 / 3**0.5  # t for two degrees of freedom; the standard deviation is 10 points
    assert (mean.value, mean.low, mean.high) == pytest.approx((80, 80 - reach, 100))
    assert (shown["b-s, mean"].low, shown["b-s, mean"].high) == (0, 100)
    assert [part.rows[0].name for part in interval_parts(table, len, 10)] == ["a-s, mean", "b-s, mean", "lone"]


def test_trainings_are_sorted_by_their_means_and_keep_their_seeds() -> None:
    runs = [*seeds_of("a", 0.9, 0.1), *seeds_of("b", 0.6, 0.7, recipe="q" * 16), scored("c", 0.55)]
    table = table_of(*runs, seeds="all", sort="niah_single_1@1024")
    assert [row.name for row in table.rows] == ["b-s, mean", "b-s1", "b-s2", "c", "a-s, mean", "a-s1", "a-s2"]


def test_a_column_that_one_seed_lacks_has_no_mean() -> None:
    first, second = seeds_of("a", 0.9, 0.1)
    more = scored("a-s2", 0.1, 0.3, model=second.model)
    mean = table_of(first, more, seeds="all").rows[0]
    assert [entry is None for entry in mean.entries[:2]] == [False, True]


@pytest.mark.parametrize(
    "runs",
    [
        seeds_of("a", 0.5),
        [*seeds_of("a", 0.5), *seeds_of("b", 0.5)],
        [*seeds_of("a", 0.5), *seeds_of("b", 0.5, seeds=(2,), recipe="q" * 16)],
        [scored("a-s1", 0.5), scored("a-s2", 0.5)],
    ],
    ids=["one seed", "one seed twice", "two recipes", "no recipe"],
)
def test_what_records_do_not_call_seeds_of_one_recipe_has_no_mean(runs: list[RunRecord]) -> None:
    table = table_of(*runs, seeds="all")
    assert len(table.rows) == len(runs)
    assert [sentence[:18] for sentence in table.explained] == ["No means of seeds:"]
