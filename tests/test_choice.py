"""Which of several runs' numbers a table shows, and what it says of the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from records import cell, model, place, record

from harness.records.leaderboard import THIS_RUN, build_table
from harness.records.named_tasks import suite_of
from harness.records.record import Cell, RunRecord, Score
from harness.records.table import Entry, Row, Table
from tasks.registry import load_suite

SUITE = load_suite("ruler_table3")
LATER = "2026-02-01T00:00:00+00:00"


def scored(value: float, n: int = 500, **changes: Any) -> Cell:
    scores = {"acc": Score(value=value, unit="share", n=n)}
    return cell(scores=scores, **{"samples": n, **changes})


def entry_of(row: Row, index: int) -> Entry:
    entry = row.entries[index]
    assert entry is not None
    return entry


def table_of(*runs: RunRecord, run: RunRecord | None = None) -> Table:
    return build_table(SUITE, [place(found) for found in runs], published=False, run=run)


def test_a_short_newer_run_does_not_replace_a_long_one() -> None:
    table = table_of(record(cells=(scored(0.9, 100),)), record(cells=(scored(0.1, 2),), started=LATER))
    assert entry_of(table.rows[0], 0).value == 90
    assert table.passed == ["ours: one cell of the run ours/x (2 samples, shown are 100)"]


def test_the_suites_protocol_comes_before_more_samples() -> None:
    odd = record(cells=(scored(0.1, 5000, seed=7),), started=LATER)
    table = table_of(odd, record(cells=(scored(0.9, 20),)))
    assert entry_of(table.rows[0], 0).value == 90
    assert table.passed == ["ours: one cell of the run ours/x (seed 7 instead of 42)"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dtype": "bfloat16"}, "bfloat16 instead of float32"),
        ({"lm_eval": "0.4.99"}, "lm-eval 0.4.99 instead of "),
        ({"decoding": "sampled"}, "decoding sampled instead of greedy"),
        (
            {"tokenizer_sha256": "u" * 64, "model": model(tokenizer_sha256="u" * 64, own_tokenizer=False)},
            "another tokenizer (uuuuuuuu) than the checkpoint's own",
        ),
        (
            {"tokenizer_sha256": "u" * 64, "command": ("run", "x", "--tokenizer", "y")},
            "another tokenizer (uuuuuuuu) than the checkpoint's own",
        ),
        ({"tokenizer_sha256": "u" * 64}, "another tokenizer (uuuuuuuu) than the checkpoint's own"),
    ],
)
def test_every_field_of_a_runs_protocol_is_compared(changes: dict[str, Any], said: str) -> None:
    plain = record(cells=(scored(0.9, 100),))
    other = record(cells=(scored(0.1, 500),), started=LATER, **changes)
    table = table_of(other, plain)
    assert entry_of(table.rows[0], 0).value == 90
    assert said in table.passed[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 1.0}, "task version 1 instead of 2"),
        ({"generation": {"until": ["\n"], "max_gen_toks": 128}}, "generation {'until': ['\\n']"),
        ({"stops_at_references": True}, "generations that end when every reference has appeared"),
        ({"max_length": 512}, "window of 512 tokens instead of 1024"),
        ({"data": {"mine.txt": "a"}}, "other data (mine.txt)"),
        ({"spec": "abc"}, "another definition of niah_single_1 (abc) than in its file now"),
        ({"context_prefix": "bos"}, "context prefix bos instead of tokenizer"),
    ],
)
def test_every_field_of_a_tasks_protocol_is_compared(changes: dict[str, Any], said: str) -> None:
    plain = [record(cells=(scored(0.9, 100, data={"mine.txt": "b"} if "data" in changes else {}),)) for _ in range(2)]
    table = table_of(record(cells=(scored(0.1, 500, **changes),), started=LATER), *plain)
    assert entry_of(table.rows[0], 0).value == 90
    assert any(said in sentence for sentence in table.passed)


def test_a_difference_is_noted_where_nothing_better_was_run() -> None:
    table = table_of(record(cells=(scored(0.1),), dtype="bfloat16"))
    assert table.notes == ["bfloat16 instead of float32"]
    assert table.passed == []


def test_a_run_that_is_not_the_tables_has_its_own_row_and_the_reason() -> None:
    long = record(cells=(scored(0.9, 100),))
    smoke = record(cells=(scored(0.1, 2),), started=LATER, run_id="ours/smoke")
    table = table_of(long, smoke, run=smoke)
    assert [(row.section, entry_of(row, 0).value) for row in table.rows] == [("this harness", 90.0), (THIS_RUN, 10.0)]
    (number,) = table.rows[1].notes
    why = table.notes[number - 1]
    assert why == "not in the row above: 2 samples, shown are 100"
    assert len(table_of(long, smoke, run=long).rows) == 1


def test_tasks_that_were_named_have_a_table() -> None:
    lost: list[str] = []
    named = replace(
        record(cells=(scored(0.25, 7), cell("niah_single_1", 700), cell("gone", 512))), suite="tasks", run_id="ours/n"
    )
    suite = suite_of([named, record(cells=(scored(0.5),))], lost.append)
    assert [(column.task, column.length, column.samples) for column in suite.columns] == [
        ("niah_single_1", 1024, 7),
        ("niah_single_1", 700, 500),
    ]
    assert len(lost) == 1
    assert lost[0].startswith("gone@512: left out of the table (unknown task 'gone'")
    table = build_table(suite, [place(named)], run=named)
    assert [entry and entry.value for entry in table.rows[0].entries] == [25.0, 50.0]
    assert table.notes == []
    assert build_table(suite_of([], lost.append), []).rows == []


def test_a_run_of_the_same_second_is_not_called_older() -> None:
    runs = [record(cells=(scored(value),), run_id=f"ours/{value}") for value in (0.5, 0.6)]
    assert table_of(*runs).passed == ["ours: one cell of the run ours/0.6 (begun in the same second)"]
