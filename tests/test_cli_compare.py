"""`compare` as typed: every format, hostile names, records that are broken, partial, newer or twice."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from compared import cell_of, run_of, samples_of, simple_run

from harness.analysis.compare import compare_runs
from harness.analysis.selection import FoundRun
from harness.cli import main as cli
from harness.records.record import FILE_NAME, Score
from harness.records.samples import FILE_NAME as SAMPLES
from harness.show.comparison_formats import COMPARISON_FORMATS

GOOD = [1.0] * 36 + [0.0] * 4
BAD = [1.0] * 20 + [0.0] * 20
HOSTILE = (
    "a\x1b]0;title\x07",
    "b|c\n| d",
    "<script>alert(1)</script>",
    "[red]x[/red]",
    "\u202eevil",
    "=1+1",
    "`c` **b** _i_",
)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for name, scores in (("good", GOOD), ("bad", BAD), ("fair", GOOD[::-1])):
        simple_run(tmp_path, name, scores)
    return tmp_path


def compare(results: Path, *arguments: str) -> int:
    return cli.main(["compare", *arguments, "--results", str(results)])


@pytest.mark.parametrize("columns", ["80", "120"])
def test_two_models_in_a_terminal(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert compare(results, "good", "bad") == 0
    out = capsys.readouterr().out
    assert "A = good   B = bad" in out
    assert "16/0/24" in out
    assert "A better" in out
    assert max(map(len, out.splitlines())) <= int(columns)


def test_more_than_two_models_are_a_matrix_and_four_have_their_pairs_only_when_asked(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(results, "*") == 0
    out = capsys.readouterr().out
    assert "Row against column" in out
    assert out.count("A = ") == 3
    simple_run(results, "poor", [0.0] * 40)
    assert compare(results, "*") == 0
    assert "A = " not in capsys.readouterr().out
    assert compare(results, "*", "--details") == 0
    assert capsys.readouterr().out.count("A = ") == 6


def test_json_has_every_field_and_csv_a_row_a_task(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(results, "good", "bad", "--format", "json") == 0
    (pair,) = json.loads(capsys.readouterr().out)["pairs"]
    (task,) = pair["tasks"]
    assert (task["task"], task["length"], task["metric"], task["wins"]) == ("niah_single_1", 1024, "acc", 16)
    assert (task["verdict"], round(task["difference"], 6)) == ("A better", 0.4)
    assert compare(results, "good", "bad", "fair", "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["model_a"], row["model_b"]) for row in rows] == [("good", "bad"), ("good", "fair"), ("bad", "fair")]


def test_a_file_gets_the_format_of_its_ending(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, start in (
        ("c.md", "**ruler_table3**"),
        ("c.json", "{"),
        ("c.csv", "model_a,"),
        ("c.txt", "ruler_table3"),
    ):
        assert compare(results, "good", "bad", "--output", str(results / name)) == 0
        assert (results / name).read_text().startswith(start)
    assert compare(results, "good", "bad", "--output", str(results / "c.docx")) == 2
    assert "no format for .docx" in capsys.readouterr().err


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_does_nothing_in_any_format(tmp_path: Path, name: str) -> None:
    runs = []
    for place, (each, scores) in enumerate(((name, GOOD), ("b", BAD), ("c", BAD))):
        cell = cell_of("niah_single_1", scores)
        run = run_of(tmp_path / f"{place}", "plain", [cell], samples_of(cell.lm_eval_name, scores))
        runs.append(FoundRun(run.folder, replace(run.record, name=each)))
    comparison = compare_runs(runs)
    for form in COMPARISON_FORMATS.values():
        assert not {"\x1b", "\x07", "\u202e"} & set(form.write(comparison))
    lines = [line for line in COMPARISON_FORMATS["markdown"].write(comparison).splitlines() if line.startswith("| ")]
    assert {line.count("|") for line in lines} == {5, 10}
    assert not any(mark in line for line in lines for mark in ("<script", "[red]", "`"))
    rows = list(csv.reader(io.StringIO(COMPARISON_FORMATS["csv"].write(comparison))))
    assert not any(field[:1] == "=" for row in rows for field in row)


def test_one_broken_record_never_hides_the_others(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (("broken", "{"), ("newer", '{"schema": 99}'), ("partial", '{"schema": 4}')):
        (results / name).mkdir()
        (results / name / FILE_NAME).write_text(text)
    shutil.copytree(next((results / "good").iterdir()), results / "copy")
    assert compare(results, "good", "bad") == 0
    shown = capsys.readouterr()
    assert "A better" in shown.out
    for said in ("broken", "newer than this version reads", "partial", "a copy of"):
        assert said in shown.err


def test_a_broken_samples_file_is_said_and_the_record_compared(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (next((results / "bad").iterdir()) / SAMPLES).write_bytes(b"no gzip")
    assert compare(results, "good", "bad") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "unpaired, by the record alone: bad/" in out
    assert "cannot be read" in out


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("good",), "nothing to compare good with"),
        (("good", "gud"), "there are 'bad', 'fair', 'good'"),
        (("good", "paper:gdn2_paper/recurrent/KDA"), None),
        (("good", "bad", "--suite", "editing"), "no task and length in common"),
        (("good", "bad", "--suite", "nope"), "unknown suite"),
        (("--seeds", "good"), "nothing to compare good with"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    results: Path, capsys: pytest.CaptureFixture[str], names: tuple[str, ...], said: str | None
) -> None:
    assert compare(results, *names) == (0 if said is None else 2)
    err = capsys.readouterr().err
    assert err.count("\n") == (0 if said is None else 1)
    assert said is None or said in err


def test_trainings_by_pattern(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, right in (("a-s1", 34), ("a-s2", 36), ("a-s3", 35), ("b-s1", 20), ("b-s2", 22), ("b-s3", 21)):
        simple_run(tmp_path, name, [1.0] * right + [0.0] * (40 - right))
    assert compare(tmp_path, "--seeds", "a-s*", "b-s*") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "A = a-s* B = b-s*" in out
    assert "seeds of A: 85.0, 90.0, 87.5" in out
    assert "A better" in out
    assert "so many seeds show" in out
    assert "so many samples" not in out


def test_files_have_the_seeds_of_a_mean_as_they_have_those_of_a_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, right in (("a-s1", 34), ("a-s2", 36), ("a-s3", 35), ("b-s1", 20), ("b-s2", 22)):
        scores = [1.0] * right + [0.0] * (40 - right)
        run_of(tmp_path, name, [cell_of("niah_single_1", scores, length=length) for length in (1024, 2048)])
    assert compare(tmp_path, "--seeds", "a-s*", "b-s*", "--format", "json") == 0
    (pair,) = json.loads(capsys.readouterr().out)["pairs"]
    expected = (3, 2, [0.85, 0.9, 0.875], [0.5, 0.55])
    for row in (*pair["tasks"], *pair["means"]):
        assert (row["n_a"], row["n_b"], row["seeds_a"], row["seeds_b"]) == expected
    assert compare(tmp_path, "--seeds", "a-s*", "b-s*", "--format", "csv") == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [line["task"] for line in lines] == ["niah_single_1", "niah_single_1", "mean: all cells"]
    for line in lines:
        assert (line["n_a"], line["n_b"]) == ("3", "2")
        assert (line["seeds_a"], line["seeds_b"]) == ("0.85; 0.9; 0.875", "0.5; 0.55")


def test_no_difference_of_shares_beyond_all_that_there_are_is_said_to_be_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, right in (("a-s1", 0), ("a-s2", 40), ("a-s3", 3), ("b-s1", 40), ("b-s2", 0), ("b-s3", 1)):
        simple_run(tmp_path, name, [1.0] * right + [0.0] * (40 - right))
    assert compare(tmp_path, "--seeds", "a-s*", "b-s*") == 0
    assert "found: >100 p" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("columns", "parts"), [("80", 1), ("60", 2)])
def test_a_matrix_has_as_many_columns_side_by_side_as_fit(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: str,
    parts: int,
) -> None:
    names = ("short", "a-name-of-eighteen", "kda", "gdn2")
    for name in names:
        simple_run(tmp_path, name, GOOD)
    monkeypatch.setenv("COLUMNS", columns)
    assert compare(tmp_path, *names) == 0
    out = capsys.readouterr().out
    headings = [line.split() for line in out.splitlines() if set(line.split()) <= set(names) and line.strip()]
    assert [name for line in headings for name in line] == list(names)
    assert len(headings) == parts
    assert max(map(len, out.splitlines())) <= int(columns)


def test_a_narrow_terminal_has_the_whole_name_of_a_task_and_its_p_below_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, scores in (("good", [1.0] * 100), ("bad", [0.0] * 100)):
        simple_run(tmp_path, name, scores, "niah_multikey_1")
    monkeypatch.setenv("COLUMNS", "80")
    assert compare(tmp_path, "good", "bad") == 0
    lines = capsys.readouterr().out.splitlines()
    (place,) = (number for number, line in enumerate(lines) if line.startswith("niah_multikey_1@1024 "))
    assert lines[place].split()[1:4] == ["100.0", "0.0", "+100.0"]
    assert lines[place].rstrip().endswith("A better")
    assert lines[place + 1].rstrip().endswith("p <0.0001")


def test_a_task_that_is_left_out_by_several_metrics_is_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("good", 1), ("bad", 2)):
        scores = {"acc": Score(value=0.5, unit="share", n=2), "stale": Score(value=0.5, unit="share", n=2)}
        cells = [
            cell_of("edit_overwrite", GOOD, seed=seed),
            cell_of("niah_single_1", GOOD),
        ]
        cells[0] = replace(cells[0], scores=scores)
        run_of(tmp_path, name, cells, suite="editing")
    assert compare(tmp_path, "good", "bad") == 0
    assert capsys.readouterr().out.count("edit_overwrite@1024") == 1
