"""Which models are seeds of one training, what it is called, and what tables, files and pictures say of it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pictures import run_of, save
from records import cell, model, place, record
from table_checks import check_latex, compiled

from harness.analysis.curves import over_length
from harness.analysis.seed_means import over_seeds
from harness.analysis.selection import FoundRun
from harness.analysis.shown import models_of, spots_of
from harness.analysis.sides import are_seeds, sides_of_runs, training
from harness.cli.main import main
from harness.errors import UserError
from harness.records.leaderboard import build_table
from harness.records.record import RunRecord
from harness.records.seed_rows import mean_of_seeds
from harness.records.table import Header, Table
from harness.records.trainings import said_of, seeds_twice, training_names
from harness.records.view import View
from harness.show.data import to_csv, to_json
from harness.show.html import to_html
from harness.show.latex import to_latex
from harness.show.markdown import to_markdown
from tasks.registry import load_suite

R, Q = "r" * 16, "q" * 16


def seed(name: str, value: float, recipe: str | None = R, number: int | None = 1, **changes: Any) -> RunRecord:
    """A run of one seed with this score at 1K."""
    info = model(f"{name}{value}", training=recipe, training_seed=number)
    return record(name, (cell(value=value),), model=info, run_id=f"{name}/x", **changes)


def table_of(runs: Sequence[RunRecord], **view: Any) -> Table:
    return build_table(load_suite("ruler_table3"), [place(run) for run in runs], False, view=View(**view))


def drawn(runs: Sequence[RunRecord]) -> tuple[dict[str, float], tuple[str, ...]]:
    """What a picture over length has at 1K, by model, and its notes."""
    models = models_of([], [FoundRun(Path(run.run_id), run) for run in runs])
    data = over_seeds(over_length(models, spots_of(models, "ruler_table3")), models)
    return {row.model: round(row.value, 6) for row in data.rows}, data.notes


TWO_OF_ONE_BEGINNING = [seed("x1", 0.1), seed("x2", 0.3, number=2), seed("x3", 0.8, Q), seed("x4", 0.9, Q, 2)]
BESIDE_ANOTHER = [seed("kda", 0.9, None, None), seed("kda-1", 0.1), seed("kda-2", 0.3, number=2)]


@pytest.mark.parametrize(
    ("runs", "means"),
    [
        (TWO_OF_ONE_BEGINNING, {"x1 and x2": 0.2, "x3 and x4": 0.85}),
        (BESIDE_ANOTHER, {"kda": 0.9, "kda-1 and kda-2": 0.2}),
    ],
    ids=["two trainings", "another model"],
)
def test_no_training_is_lost_or_mixed_with_what_is_called_alike(
    runs: list[RunRecord], means: Mapping[str, float]
) -> None:
    assert drawn(runs)[0] == means
    rows = {row.name.removesuffix(", mean"): row.entries[0] for row in table_of(runs, seeds="means").rows}
    assert {name: entry and round(entry.value / 100, 6) for name, entry in rows.items()} == means


@pytest.mark.parametrize(
    ("names", "called"),
    [
        (("m", "m-seed2"), "m"),
        (("m-seed1", "m-seed2"), "m"),
        (("m-seed11", "m-seed12", "m-seed13"), "m"),
        (("gdn2-1", "gdn2-10", "gdn2-100"), "gdn2"),
        (("gdn2-4m-s1", "gdn2-4m-s2"), "gdn2-4m-s"),
        (("run2-a", "run2-b"), "run2"),
        (("m (aaaaaa)", "m (bbbbbb)"), "m"),
        (("seed1", "seed2"), "seed"),
        (("11", "12"), "11 and 12"),
        (("alpha", "beta", "gamma"), "alpha, beta and gamma"),
        (("alpha", "beta", "gamma", "delta", "eta"), "alpha, beta and 3 more"),
        (("模型-1", "模型-2"), "模型"),
    ],
)
def test_a_training_is_called_by_the_beginning_of_its_seeds_names(names: tuple[str, ...], called: str) -> None:
    assert training_names({R: names}) == {R: called}


def test_five_seeds_named_by_their_first_ones_are_told_apart_from_five_others() -> None:
    found = training_names({R: [f"x{i}" for i in range(5)], Q: [f"x{i}" for i in range(5, 10)]})
    assert found == {R: "x0, x1 and 3 more", Q: "x5, x6 and 3 more"}


def test_one_seed_under_two_names_is_said_wherever_means_are_asked_for() -> None:
    runs = [seed("a", 0.1), seed("again", 0.1), seed("b", 0.3, number=2)]
    sentence = "o mean of a, again and b: a and again are of seed 1; name one model of each seed"
    assert table_of(runs, seeds="means").explained == ["N" + sentence]
    with pytest.raises(UserError, match=f"^--seeds: n{sentence}$"):
        drawn(runs)
    others = [seed("c", 0.5, Q), seed("d", 0.7, Q, 2)]
    assert drawn([*runs, *others])[1][-1] == "n" + sentence
    assert "N" + sentence in table_of([*runs, *others], seeds="all").explained
    assert len(table_of(runs, seeds="means", models=("a", "b")).rows) == 1
    assert seeds_twice([("m@1k", (R, 1)), ("m@2k", (R, 1))]) == []  # steps of one seed


def test_every_command_takes_the_seed_from_the_first_record_that_says_it() -> None:
    older = seed("a", 0.1, None, None, started="2025-01-01T00:00:00+00:00")
    runs = [older, seed("a", 0.1), seed("b", 0.3, number=2)]
    assert said_of(runs) == (R, 1)
    assert drawn(runs)[0] == {"a and b": 0.2}
    assert table_of(runs, seeds="means").rows[0].name == "a and b, mean"
    assert are_seeds(sides_of_runs([FoundRun(Path(run.run_id), run) for run in runs]))


def test_a_recipe_without_a_seed_is_no_seed_in_any_command() -> None:
    runs = [seed("a", 0.1), seed("b", 0.3, number=None)]
    assert len(table_of(runs, seeds="means").rows) == 2
    with pytest.raises(UserError, match="no two are seeds"):
        drawn(runs)
    assert not are_seeds(sides_of_runs([FoundRun(Path(run.run_id), run) for run in runs]))


def test_how_many_seeds_a_mean_has_is_said_where_they_are_not_shown() -> None:
    runs = [*(seed(f"a-{i}", 0.1, number=i) for i in range(5)), seed("b-1", 0.5, Q), seed("b-2", 0.5, Q, 2)]
    said = "Seeds of each mean: a (5), b (2)"
    assert said in table_of(runs, seeds="means").explained
    assert said not in table_of(runs, seeds="all").explained


def test_files_have_the_interval_of_a_mean_as_a_share() -> None:
    table = table_of([seed(f"a-{i}", value, number=i) for i, value in enumerate((0.5, 0.6, 0.7))], seeds="means")
    reach = 4.302652729696142 * 0.1 / 3**0.5
    expected = pytest.approx((0.6, 0.6 - reach, 0.6 + reach))
    whole = json.loads(to_json(table))
    assert whole["explained"] == table.explained
    assert whole["rows"][0]["model"] == "a, mean"  # no name that a seed has
    found = whole["rows"][0]["cells"]["niah_single_1@1024"]
    assert (found["value"], found["low"], found["high"]) == expected
    line = next(csv.DictReader(io.StringIO(to_csv(table))))
    assert (float(line["value"]), float(line["low"]), float(line["high"])) == expected


def test_files_have_how_many_seeds_a_mean_is_of_whichever_rows_are_shown() -> None:
    runs = [*SPREAD, *PAIR, seed("other", 0.4, None, None)]
    reach = 4.302652729696142 * 0.1 / 3**0.5
    means = {"a, mean": (3, None, R, reach), "c, mean": (2, None, "p" * 16, None)}
    seeds = {f"a{number}": (None, number, R, None) for number in (1, 2, 3)}
    seeds |= {f"c{number}": (None, number, "p" * 16, None) for number in (1, 2)}
    other = {"other": (None, None, None, None)}
    for view, expected in (("all", means | seeds | other), ("means", means | other), (None, seeds | other)):
        table = table_of(runs, seeds=view, columns=("niah_single_1@1024",))
        found = {}
        for row in json.loads(to_json(table))["rows"]:
            its = (row["num_seeds"], row["training_seed"], row["recipe"], row["cells"]["niah_single_1@1024"]["reach"])
            found[row["name"]] = its
        assert found == {name: pytest.approx(its) for name, its in expected.items()}
        lines = list(csv.DictReader(io.StringIO(to_csv(table))))
        said = {
            line["name"]: (line["num_seeds"], line["training_seed"], line["recipe"], line["reach"]) for line in lines
        }
        assert said == {name: tuple("" if each is None else str(each) for each in its) for name, its in found.items()}


def test_a_mean_and_the_sentence_below_it_count_the_same_seeds() -> None:
    table = table_of([*SPREAD, *PAIR], seeds="means")
    assert [(row.name, row.num_seeds) for row in table.rows] == [("a, mean", 3), ("c, mean", 2)]
    assert "Seeds of each mean: a (3), c (2)" in table.explained


def seeds_of(name: str, recipe: str, *scores: tuple[float, float], **at_1k: Any) -> list[RunRecord]:
    """Runs of a seed each, with these scores at 1K and 2K; another definition (`spec`) gives a number a note."""
    return [
        record(
            f"{name}{number}",
            (cell(value=first, **at_1k), cell(length=2048, value=second)),
            model=model(f"{name}{number}", training=recipe, training_seed=number),
            run_id=f"{name}{number}/x",
        )
        for number, (first, second) in enumerate(scores, 1)
    ]


SPREAD = seeds_of("a", R, (0.9, 0.5), (1.0, 0.5), (0.8, 0.5))  # alike at 2K
WIDE = seeds_of("b", Q, (0.1, 0.02), (0.6, 0.03), (0.9, 0.04))
PAIR = seeds_of("c", "p" * 16, (0.2, 0.1), (0.4, 0.3))


def test_markdown_has_the_interval_of_a_mean_below_it_as_wide_as_its_column() -> None:
    table = table_of([*SPREAD, *WIDE, *PAIR], seeds="means", columns=("niah_single_1@1024", "niah_single_1@2048"))
    text = to_markdown(table)
    figure, point, apart = "\u2007", "\u2008", "\u00a0\u00a0"
    cells = {row[0]: row[1] for line in text.splitlines()[3:6] for row in [line.strip("| ").split(" | ")]}
    assert cells == {
        "a, mean": f"{point}90.0{apart}50.0<br>{figure}±25{apart}{figure * 3}&nbsp;",
        "b, mean": f"{point}53.3{apart}{figure}3.0<br>±100{apart}±2.5",
        "c, mean": f"{point}30.0{apart}20.0",
    }
    assert "\n\n± is half the 95 % interval of the mean above it" in text
    assert "±" not in to_markdown(table, intervals=True).split("95 % intervals:")[0]
    alone = table_of([*SPREAD, *WIDE, *PAIR], seeds="all", columns=("niah_single_1@1024",))
    assert "| a, mean | 90.0<br>±25 |\n| a1 | 90.0 |" in to_markdown(alone)


def test_the_interval_of_a_mean_with_a_note_stands_below_its_number() -> None:
    noted = seeds_of("b", Q, (0.1, 0.02), (0.6, 0.03), (0.9, 0.04), spec="other")
    table = table_of([*SPREAD, *noted], seeds="means", columns=("niah_single_1@1024", "niah_single_1@2048"))
    line = next(line for line in to_markdown(table).splitlines() if line.startswith("| b, mean"))
    value, reach = line.split(" | ")[1].removesuffix(" |").split("<br>")
    assert "53.3 [1]" in value
    assert reach.startswith("±100\u2008\u2008\u2007\u2008\u00a0")


def test_latex_has_the_interval_of_a_mean_in_a_smaller_line_on_the_same_page(tmp_path: Path) -> None:
    text = to_latex(table_of([*SPREAD, *WIDE, *PAIR], seeds="means", columns=("niah_single_1@1024",)))
    rows = text[text.index("a, mean") : text.index(r"\bottomrule")].splitlines()
    assert [row.replace(r"\noalign{\vskip-2pt}", "") for row in rows] == [
        r"a, mean & 90.0 \\",
        r" & \scriptsize $\pm$25 \\",
        r"b, mean & 53.3 \\",
        r" & \scriptsize $\pm$100 \\",
        r"c, mean & 30.0 \\",
    ]
    many = [run for n in range(45) for run in seeds_of(f"m{n:02}-", f"{n:016}", (0.1, 0), (0.2, 0), (0.3, 0))]
    text = to_latex(table_of(many, seeds="means", columns=("niah_single_1@1024",)))
    check_latex(text)
    assert text.count(r"\begin{table*}") == 3
    assert text.count(", mean & 20.0 \\\\\n\\noalign") == 45
    compiled(text, tmp_path)


@pytest.mark.parametrize(
    ("runs", "is_said"),
    [(PAIR, False), ([*PAIR, *WIDE], True), (seeds_of("d", R, (0, 0), (0, 0), (0, 0)), True)],
    ids=["two seeds", "three seeds of one", "all alike"],
)
def test_what_is_said_of_means_is_so_in_every_format(runs: list[RunRecord], is_said: bool) -> None:
    table = table_of(runs, seeds="means")
    assert ("from three seeds on, unless they are all alike, an interval" in table.explained[0]) == is_said
    has_interval = runs[-1].name.startswith("b")
    assert (to_markdown(table).count("±") > 0) == (to_latex(table).count(r"\pm") > 0) == has_interval
    assert ("<small>" in to_html(table)) == has_interval


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("niah_single_1@1024", 135.2, "±135"),
        ("niah_single_1@1024", 9.96, "±10"),
        ("niah_single_1@1024", 9.94, "±9.9"),
        ("ppl", 12.34, "±12.3"),
        ("bits", 0.0161, "±0.016"),
    ],
)
def test_half_of_an_interval_has_no_more_digits_than_its_mean(name: str, value: float, text: str) -> None:
    decimals = {"ppl": 2, "bits": 3}.get(name, 1)
    assert Header("group", "label", decimals, higher_is_better=True, key=name).reach(value) == text


@pytest.mark.parametrize(
    ("values", "unit", "expected"),
    [
        ((0.9, 1.0, 1.0), "share", (0.82325, 1.0)),
        ((-3.0, -1.0, -2.0), "number", (-4.48414, 0.48414)),
        ((0.1, 3.0, 0.2), "perplexity", (0.0, 5.18941)),
        ((1.0, 1.0, 1.0), "share", (None, None)),
        ((0.2, 0.3), "share", (None, None)),
    ],
    ids=["share", "below 0", "perplexity", "no spread", "two"],
)
def test_an_interval_over_seeds_is_cut_to_what_the_unit_allows(
    values: tuple[float, ...], unit: Any, expected: tuple[float | None, ...]
) -> None:
    mean, low, high, reach = mean_of_seeds(values, unit, 1.0)
    assert (low, high) == (expected if expected[0] is None else pytest.approx(expected, abs=1e-4))
    assert (reach is None) == (low is None)
    if low is not None and high is not None and reach is not None:
        assert reach >= max(mean - low, high - mean) - 1e-12  # an end that was cut is nearer


def test_seeds_of_one_name_are_compared_as_seeds_and_models_of_several_recipes_are_not() -> None:
    run = run_of("m", {("niah_single_1", 1024): 0.5})

    def side(name: str, recipe: str, number: int) -> FoundRun:
        info = model(f"{name}{recipe}{number}", training=recipe, training_seed=number)
        return FoundRun(run.folder, replace(run.record, name=name, model=info))

    alike = sides_of_runs([side("m", R, 10), side("m", R, 2), side("m", R, 3)])
    assert training("m", alike).seeds == (alike[1], alike[2], alike[0])  # not in the order in which they were asked
    mixed = sides_of_runs([side("m", R, 1), side("m-swa", Q, 1)])
    with pytest.raises(UserError, match=r"m\*: m, m-swa are of 2 recipes, .* or say --anyway"):
        training("m*", mixed)
    assert len(training("m*", mixed, anyway=True).seeds) == 2
    many = sides_of_runs([side(f"m{place}", f"{place}" * 16, place % 2) for place in (5, 1, 2, 3, 4, 1)])
    with pytest.raises(UserError, match=r"m\*: m5, m1, m2 and 2 more are of 5 recipes"):
        training("m*", many)


def test_a_table_of_means_alone_is_not_said_to_have_no_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in (seed("a-1", 0.1), seed("a-2", 0.3, number=2)):
        save(tmp_path / run.name, run)
    for shown in (["--seeds", "means"], ["--seeds"], []):
        assert main(["leaderboard", "--results", str(tmp_path), "--no-published", *shown]) == 0
        assert capsys.readouterr().err == ""
