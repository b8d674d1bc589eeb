"""The effective length as a column of a suite that asks for it: in every format, and never over a missing cell."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import records
from rich.console import Console

from harness.errors import UserError
from harness.records.leaderboard import build_table
from harness.records.record import Cell, RunRecord, Score
from harness.records.stats import wilson_interval
from harness.records.table import Entry, Table
from harness.show.formats import FORMATS
from harness.show.terminal import print_table
from tasks.errors import TaskError
from tasks.registry import Suite, load_suite

SUITE = """suite: mine
effective_length: 85.6
columns:
  - {task: niah_single_1, lengths: [1024, 2048, 4096], metric: acc, samples: 500, group: S1}
  - {task: niah_single_2, lengths: [1024, 2048, 4096, 8192], metric: acc, samples: 500, group: S2}
"""


def suite(folder: Path, text: str = SUITE) -> Suite:
    file = folder / "mine.yaml"
    file.write_text(text)
    return load_suite(file)


def cell(task: str, length: int, value: float) -> Cell:
    low, high = wilson_interval(round(value * 500), 500)
    return records.cell(task, length, scores={"acc": Score(value=value, unit="share", n=500, low=low, high=high)})


def run(name: str, first: tuple[float, ...], second: tuple[float, ...]) -> RunRecord:
    lengths = (1024, 2048, 4096, 8192)
    cells = [cell("niah_single_1", length, value) for length, value in zip(lengths, first, strict=False)]
    cells += [cell("niah_single_2", length, value) for length, value in zip(lengths, second, strict=False)]
    return records.record(name, tuple(cells), suite="mine")


def table(folder: Path) -> Table:
    rows = [
        run("all", (1.0, 1.0, 0.99), (1.0, 1.0, 0.98, 0.2)),
        run("half", (1.0, 0.9, 0.2), (0.9, 0.83, 0.1)),
        run("none", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        run("part", (1.0, 1.0), (1.0, 1.0, 1.0)),
        run("one", (1.0,), (1.0, 1.0)),
    ]
    return build_table(suite(folder), [records.place(row) for row in rows])


def reached(made: Table) -> dict[str, Entry | None]:
    return {row.name: row.entries[-1] for row in made.rows}


def test_the_column_has_the_length_up_to_which_the_mean_passes_with_its_interval(tmp_path: Path) -> None:
    made = table(tmp_path)
    header = made.headers[-1]
    texts = {name: None if entry is None else header.number(entry.value) for name, entry in reached(made).items()}
    assert texts == {"all": "≥4K", "half": "2K", "none": "<1K", "one": None, "part": "2K"}
    half = reached(made)["half"]
    assert half is not None
    assert (half.low, half.high, header.interval(half.low or 0.0, half.high or 0.0)) == (1024.0, 2048.0, "1K–2K")
    assert header.interval(4096.0, 4096.0) == "≥4K"


def test_a_row_that_lacks_longer_lengths_says_where_it_ends(tmp_path: Path) -> None:
    made = table(tmp_path)
    part, half = reached(made)["part"], reached(made)["half"]
    assert part is not None
    assert half is not None
    assert [made.notes[number - 1] for number in part.notes] == ["effective length: not run beyond 2K"]
    assert half.notes == ()


def test_what_passes_nowhere_is_neither_best_nor_second(tmp_path: Path) -> None:
    found = reached(table(tmp_path))
    assert [name for name, entry in found.items() if entry and entry.is_best] == ["all"]
    assert [name for name, entry in found.items() if entry and entry.is_second] == ["half", "part"]
    alone = build_table(suite(tmp_path), [records.place(run(name, (0.1,) * 3, (0.1,) * 3)) for name in "ab"])
    assert not any(entry and entry.is_best for entry in reached(alone).values())


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_it_and_says_what_it_means(tmp_path: Path, name: str) -> None:
    text = FORMATS[name].write(table(tmp_path))
    if name == "json":
        cells = {row["name"]: row["cells"]["effective_length"] for row in json.loads(text)["rows"]}
        assert (cells["half"]["value"], cells["half"]["low"], cells["half"]["high"]) == (2048.0, 1024.0, 2048.0)
        assert cells["one"] is None
    elif name == "csv":
        assert "effective_length" in text
    else:
        assert "the longest of 1K, 2K, 4K up to which the mean of the 2 tasks" in " ".join(text.split())
        assert (r"$\geq$4K" if name == "latex" else "≥4K") in text


def test_it_is_sorted_and_chosen_by_its_name(tmp_path: Path) -> None:
    from harness.records.view import View

    view = View(columns=("effective_length",), sort="effective_length")
    rows = [run("none", (0.5,) * 3, (0.5,) * 3), run("all", (1.0,) * 3, (1.0,) * 3)]
    made = build_table(suite(tmp_path), [records.place(row) for row in rows], view=view)
    assert [row.name for row in made.rows] == ["all", "none"]
    assert [header.key for header in made.headers] == ["effective_length"]
    console = Console(width=80, file=io.StringIO(), color_system=None)
    print_table(made, console)


def test_rulers_own_suite_has_it_and_a_suite_that_does_not_ask_has_none() -> None:
    assert build_table(load_suite("ruler"), []).headers[-1].tested == (4096, 8192, 16384, 32768, 65536, 131072)
    assert all(not header.tested for header in build_table(load_suite("ruler_table3"), []).headers)


@pytest.mark.parametrize("value", ["0", "100", "true", "high", "[85]"])
def test_a_threshold_that_is_no_percentage_is_named(tmp_path: Path, value: str) -> None:
    with pytest.raises(TaskError, match="field 'effective_length' must be percent above 0 and below 100"):
        suite(tmp_path, SUITE.replace("85.6", value))


def test_a_suite_without_two_common_lengths_is_named(tmp_path: Path) -> None:
    short = SUITE.replace("lengths: [1024, 2048, 4096, 8192]", "lengths: [8192, 4096]")
    with pytest.raises(UserError, match="effective_length: needs two lengths"):
        build_table(suite(tmp_path, short), [])
