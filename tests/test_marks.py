"""The best and the second of a column: by their printed numbers, in a group, and what intervals leave open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from records import cell, place, record

from harness.errors import UserError
from harness.records.leaderboard import build_table
from harness.records.record import RunRecord, Score
from harness.records.table import Header, Table
from tasks.registry import load_suite

SUITE = load_suite("ruler_table3")


def run(name: str, value: float, low: float | None = None, high: float | None = None) -> RunRecord:
    scores = {"acc": Score(value=value, unit="share", n=500, low=low, high=high)}
    return record(name, (cell(scores=scores),))


def table_of(*runs: RunRecord, suite: Any = SUITE, published: bool = False) -> Table:
    return build_table(suite, [place(run) for run in runs], published)


def marks(table: Table, column: int = 0) -> dict[str, str | None]:
    return {row.name: entry.mark for row in table.rows if (entry := row.entries[column])}


def test_numbers_that_read_the_same_share_a_mark() -> None:
    table = table_of(run("a", 0.90001), run("b", 0.9), run("c", 0.85), run("d", 0.8501), run("e", 0.1))
    assert marks(table) == {"a": "best", "b": "best", "c": "second", "d": "second", "e": None}


def test_a_mark_needs_rivals() -> None:
    assert marks(table_of(run("a", 0.9))) == {"a": None}
    assert marks(table_of(run("a", 0.9), run("b", 0.8))) == {"a": "best", "b": None}
    assert marks(table_of(run("a", 0.9), run("b", 0.9), run("c", 0.9))) == dict.fromkeys("abc", "best")


def test_marks_are_given_in_each_group() -> None:
    table = table_of(run("a", 0.01), run("b", 0.02), published=True)
    best = {row.section for row in table.rows if (entry := row.entries[3]) and entry.is_best}
    assert best == {"papers, recurrent", "papers, hybrid"}
    assert marks(table)["b"] == "best"


def test_what_overlaps_with_the_best_is_said() -> None:
    table = table_of(run("a", 0.9, 0.8, 0.95), run("b", 0.79, 0.7, 0.8), run("c", 0.5, 0.4, 0.6))
    assert [entry.overlaps_best for row in table.rows if (entry := row.entries[0])] == [False, True, False]
    assert table.overlaps == ["this harness: the interval of the best overlaps with another's in the one column"]
    apart = table_of(run("a", 0.9, 0.8, 0.95), run("c", 0.5, 0.4, 0.6))
    assert apart.overlaps == ["this harness: the interval of the best is apart from all others in the one column"]
    assert table_of(run("a", 0.9), run("c", 0.5)).overlaps == []
    assert table_of(run("a", 0.9, 0.8, 0.95), run("c", 0.5)).overlaps == []


def test_columns_that_overlap_are_named_by_group() -> None:
    runs = [record(name, tuple(cell(length=length, value=value) for length in (1024, 2048, 4096)))
            for name, value in (("a", 0.5), ("b", 0.52))]  # fmt: skip
    runs[1] = record("b", (*runs[1].cells[:2], cell(length=4096, value=0.9)))
    assert table_of(*runs).overlaps == [
        "this harness: the interval of the best overlaps with another's in 2 of 3 columns (S-NIAH-1 1K, 2K)"
    ]


def write_suite(folder: Path, of: str) -> Any:
    """Three columns with names and one average."""
    (folder / "own.yaml").write_text(
        "suite: own\ncolumns:\n"
        "  - {task: niah_single_1, length: 1024, metric: acc, name: one, label: 1K, group: S}\n"
        "  - {task: niah_single_1, length: 2048, metric: acc, name: two, label: 2K, group: S}\n"
        "  - {task: wiki_perplexity, metric: bits_per_byte, name: wiki, label: bpb, group: Wiki}\n"
        f"averages:\n  - {{name: avg, label: mean, group: Average, of: {of}}}\n"
    )
    return load_suite(folder / "own.yaml")


def test_there_is_no_average_over_a_cell_that_is_missing_and_it_is_named(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, "[one, two]")
    wiki = cell("wiki_perplexity", None, scores={"bits_per_byte": Score(value=1.0, unit="bits", n=9)})
    whole, half = record("whole", (cell(value=0.2), cell(length=2048, value=0.4))), run("half", 0.9)
    table = table_of(whole, half, run("other", 0.5), record("none", (wiki,)), suite=suite)
    averages = {row.name: row.entries[3] for row in table.rows}
    assert averages["half"] is None
    assert averages["whole"] is not None
    assert averages["whole"].value == pytest.approx(30)
    assert averages["none"] is None
    assert table.incomplete == ["half, other: Average mean, without S 2K"]


def test_an_average_of_unlike_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"own\.yaml: averages\[0\]: one, wiki are of different units or directions"):
        table_of(suite=write_suite(tmp_path, "[one, wiki]"))


def test_an_average_of_bits_is_best_where_it_is_least(tmp_path: Path) -> None:
    def bits(name: str, value: float) -> RunRecord:
        scores = {"bits_per_byte": Score(value=value, unit="bits", n=10, higher_is_better=False)}
        return record(name, (cell("wiki_perplexity", None, scores=scores),))

    table = table_of(bits("a", 1.5), bits("b", 1.25), suite=write_suite(tmp_path, "[wiki]"))
    assert marks(table, 3) == {"a": None, "b": "best"}
    assert table.headers[3].number(1.25) == "1.250"


def test_cells_that_are_no_column_of_the_suite_any_more_are_named() -> None:
    old = record("old", (cell("niah_single_1", 16384), cell("niah_gone", None), cell()))
    other = record("other", (cell("squad_retrieval", None),), suite="retrieval")
    table = table_of(old, other, record("gone", (cell("niah_gone", 5),)))
    assert [row.name for row in table.rows] == ["old"]
    assert table.unplaced == ["gone: niah_gone@5", "old: niah_single_1@16384, niah_gone"]


def test_no_zero_is_below_another() -> None:
    header = Header("a", "b", 2, True, unit="number")
    assert [header.number(value) for value in (-0.001, 0.0, 0.001, -0.01)] == ["0.00", "0.00", "0.00", "-0.01"]
