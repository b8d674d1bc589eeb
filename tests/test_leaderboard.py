"""Which cells stand in a table, what is marked, and how it is drawn."""

import io
from pathlib import Path
from typing import Any, cast

from records import cell, model, place, record
from rich.console import Console

from harness.records.leaderboard import build_table
from harness.records.record import Cell, Score
from harness.records.table import Entry, Row
from harness.show.markdown import to_markdown
from harness.show.terminal import print_table
from tasks.registry import load_suite

SUITE = load_suite("ruler_table3")


def scored(value: float, n: int, **changes: Any) -> Cell:
    """A cell of so many samples."""
    return cell(samples=n, scores={"acc": Score(value=value, unit="share", n=n)}, **changes)


def entry_of(row: Row, index: int) -> Entry:
    entry = row.entries[index]
    assert entry is not None
    return entry


def drawn(table: Any, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    print_table(table, console)
    return cast(io.StringIO, console.file).getvalue()


def test_a_cell_that_was_not_run_is_a_dash_and_not_zero() -> None:
    table = build_table(SUITE, [place(record(cells=(cell(value=0.0),)))])
    (ours,) = [row for row in table.rows if row.section == "this harness"]
    assert entry_of(ours, 0).value == 0.0
    assert ours.entries[1:] == (None,) * 13
    line = next(line for line in to_markdown(table).splitlines() if line.startswith("| ours"))
    assert line.count("—") == 13
    assert "0.0" in line


def test_published_rows_stand_beside_ours_with_a_note() -> None:
    table = build_table(SUITE, [])
    sections = {row.section for row in table.rows}
    assert sections == {"papers, recurrent", "papers, hybrid"}
    assert {row.notes for row in table.rows} == {(1,)}
    (gdn2,) = [row for row in table.rows if row.name == "Gated DeltaNet-2" and "recurrent" in row.section]
    assert entry_of(gdn2, 3).value == 97.8
    assert entry_of(gdn2, 3).is_best
    assert "generator" in table.notes[0]
    quick = build_table(load_suite("quick"), [])
    assert {row.name: entry_of(row, 5).value for row in quick.rows if "recurrent" in row.section}["KDA"] == 54.0
    assert all(row.entries[6] is None for row in quick.rows)  # no paper has that column


def test_a_suite_that_the_papers_do_not_share_has_no_published_rows(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "suite: own\ncolumns:\n  - {task: squad_retrieval, metric: contains, label: c, group: g}\n"
    )
    table = build_table(load_suite(tmp_path / "own.yaml"), [])
    assert table.rows == []
    assert "no results yet" in drawn(table, 80)


def test_what_differs_from_the_suite_is_noted_at_the_cell() -> None:
    odd = cell(samples=50, seed=7, generator="nvidia", context_prefix="none", truncated=3, version=0.5, shots=5)
    table = build_table(SUITE, [place(record(cells=(odd, cell(length=2048))))], published=False)
    notes = [table.notes[number - 1] for number in entry_of(table.rows[0], 0).notes]
    assert notes == [
        "50 samples instead of 500",
        "task version 0.5 instead of 2",
        "seed 7 instead of 42",
        "generator nvidia instead of exact",
        "5 solved examples instead of 0",
        "context prefix none instead of tokenizer",
        "3 requests lost their beginning (max_length 1024)",
    ]
    assert entry_of(table.rows[0], 1).notes == ()


def test_the_suites_protocol_wins_then_more_samples_then_the_newest() -> None:
    runs = [
        record(cells=(cell(value=0.1),), started="2026-01-01T00:00:00+00:00"),
        record(cells=(cell(value=0.2),), started="2026-01-02T00:00:00+00:00"),
        record(cells=(scored(0.9, 50),), started="2026-01-03T00:00:00+00:00"),
    ]
    table = build_table(SUITE, [place(run) for run in runs], published=False)
    assert [entry_of(row, 0).value for row in table.rows] == [20.0]
    assert table.passed == [
        "ours: one cell of the run ours/x (older)",
        "ours: one cell of the run ours/x (50 samples, shown are 500)",
    ]


def test_two_checkpoints_of_one_name_are_two_rows() -> None:
    runs = [record(cells=(cell(),), model=model(digest * 64)) for digest in "ab"]
    table = build_table(SUITE, [place(run) for run in runs], published=False)
    assert [row.name for row in table.rows] == ["ours (aaaaaa)", "ours (bbbbbb)"]


def test_the_best_of_a_column_is_marked_in_its_direction() -> None:
    quick = load_suite("quick")

    def wiki(bits: float) -> Any:
        scores = {"bits_per_byte": Score(value=bits, unit="bits", n=100, higher_is_better=False)}
        return cell("wiki_perplexity", None, samples=100, scores=scores)

    runs = [record("good", (wiki(1.2),)), record("bad", (wiki(1.9),))]
    table = build_table(quick, [place(run) for run in runs], published=False)
    index = next(i for i, column in enumerate(quick.columns) if column.metric == "bits_per_byte")
    best = {row.name: entry_of(row, index).is_best for row in table.rows}
    assert best == {"good": True, "bad": False}


def test_the_terminal_table_fits_its_width() -> None:
    table = build_table(SUITE, [place(record(cells=tuple(cell(c.task, c.length) for c in SUITE.columns)))])
    for width in (80, 120, 200):
        text = drawn(table, width)
        assert max(len(line) for line in text.splitlines()) <= width
        assert "…" not in text
        for value in ("97.8", "39.2", "37.8", "46–54", "n=500"):
            assert value in text


def test_names_of_a_mean_and_of_seeds_are_whole_in_a_narrow_terminal_and_two_groups_fit_beside_them() -> None:
    names = ("gated-deltanet-4m, mean", "gated-deltanet-4m-seed2")
    text = drawn(build_table(SUITE, [place(record(name, (cell(),))) for name in names], published=False), 80)
    assert all(f"{name} " in text for name in names)
    assert "S-NIAH-2" in next(line for line in text.splitlines() if "S-NIAH-1" in line)


def test_a_part_of_the_table_leaves_out_models_without_anything_in_it() -> None:
    text = drawn(build_table(load_suite("quick"), []), 80)
    assert text.count("Gated DeltaNet-2") == 2  # recurrent and hybrid, in the part with needles only
    assert "Wiki" in text


def test_markdown_of_a_small_table(tmp_path: Path) -> None:
    suite = tmp_path / "one.yaml"
    suite.write_text(
        "suite: one\ndescription: d\ncolumns:\n"
        "  - {task: niah_single_1, length: 1024, metric: acc, samples: 500, label: 1K, group: S-NIAH-1}\n"
    )
    table = build_table(load_suite(suite), [place(record(cells=(cell(value=0.25),)))], published=False)
    assert to_markdown(table, intervals=True) == (
        "| model | S-NIAH-1<br>1K |\n"
        "| --- | ---: |\n"
        "| *this harness* | |\n"
        "| ours | 25.0 |\n"
        "\n"
        "95 % intervals, 500 documents in every cell:\n"
        "\n"
        "| | ours |\n"
        "| --- | ---: |\n"
        "| S-NIAH-1 1K | 25.0 (21.0–29.0) |\n"
    )
