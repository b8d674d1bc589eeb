"""The formats of tables: chosen by name or ending, and safe against what stands in names."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from records import cell, place, record
from rich.console import Console
from table_checks import check_latex, check_markdown, compiled

from harness.cli import main as cli
from harness.errors import UserError
from harness.records.leaderboard import build_table
from harness.records.named_tasks import suite_of
from harness.records.record import RunRecord, Score
from harness.records.table import Table
from harness.show.formats import FORMATS, format_for
from harness.show.plain import markdown, plain
from harness.show.summary import print_summary
from tasks.registry import load_suite

SUITE = load_suite("ruler_table3")
ROOT = Path(__file__).resolve().parent.parent
HOSTILE = (
    "a\x1b]0;title\x07", "b|c\n| d", "<script>alert(1)</script>", "[red]x[/red]", "\u202eevil", "`c` **b** _i_",
    "\\input{x} $x$ 50% #1 a_b ~ ^ {} & \\\\ [1ex] *", "=1+1", "+cmd|' /C calc'!A0", "-1", "@SUM(A1)", "\tx", " =2*3",
    "\"><img src=x onerror=alert(1)>", "{{ 7 * 7 }}{% raw %}", "</script><b>x", "[1ex] x", "*x", "a--b ?` ''q''",
    "Ünï Łódź ő ç 中文 ε é\u0301 🙂", "x" * 300,
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "output", "chosen"),
    [
        (None, None, "terminal"),
        ("markdown", None, "markdown"),
        (None, "table.md", "markdown"),
        (None, "TABLE.MD", "markdown"),
        ("terminal", "table.md", "terminal"),
        (None, "table.txt", "terminal"),
        (None, "table", "terminal"),
        (None, "/dev/null", "terminal"),
    ],
)
def test_a_format_is_chosen_by_name_then_by_ending(name: str | None, output: str | None, chosen: str) -> None:
    assert format_for(name, None if output is None else Path(output)) == chosen


@pytest.mark.parametrize("options", [[], ["--format", "markdown"]])
def test_a_disk_that_is_full_is_one_line(tmp_path: Path, options: list[str]) -> None:
    command = [sys.executable, "run_eval.py", "leaderboard", "--results", str(tmp_path), *options]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: the output: cannot be written (No space left on device)\n")


def test_a_table_without_columns_says_that_there_is_nothing() -> None:
    empty = build_table(suite_of([], print), [])
    assert FORMATS["markdown"].write(empty) == "No results yet.\n"
    assert "no results yet" in FORMATS["terminal"].write(empty)


def test_an_ending_that_no_format_has_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UserError, match=r"no format for \.docx; end it in \.txt, \.md, .*--format"):
        format_for(None, Path("table.docx"))


def test_runs_that_have_no_number_for_a_table_are_counted_with_their_suites(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "record.json").write_text(record(cells=(cell(length=1024),), suite="mine").to_json())
    for options in (("--suite", "editing"), ("--columns", "8K"), ()):
        assert cli.main(["leaderboard", "--results", str(tmp_path), *options]) == 0
        err = capsys.readouterr().err
        assert ("left out: 1 run of mine: no number for the columns of " in err) == bool(options)
    assert cli.main(["leaderboard", "--results", str(tmp_path), "--columns", "8K", "--models", "KDA"]) == 0
    assert capsys.readouterr().err == ""


def test_the_command_writes_a_file_by_its_ending(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "record.json").write_text(record(cells=(cell(),)).to_json())
    starts = {"t.md": "| model |", "t.txt": "ruler_table3", "t.tex": "% In the preamble", "t.html": "<!DOCTYPE html>"}
    for name, start in {**starts, "t.csv": "suite,section,", "t.json": "{"}.items():
        assert cli.main(["leaderboard", "--results", str(tmp_path), "--output", str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_text().startswith(start)
    assert cli.main(["leaderboard", "--results", str(tmp_path), "--output", str(tmp_path / "no" / "t.md")]) == 2
    assert "t.md: cannot be written" in capsys.readouterr().err


def test_the_command_shows_what_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        made = record(name, (cell(value=ord(name) / 200), cell(length=2048)), run_id=f"{name}/x")
        (tmp_path / name / "record.json").write_text(made.to_json())
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "record.json").write_text((tmp_path / "b" / "record.json").read_text())
    (tmp_path / "nan").mkdir()
    text = (tmp_path / "c" / "record.json").read_text().replace('"value": 0.5', '"value": NaN')
    (tmp_path / "nan" / "record.json").write_text(text)
    (tmp_path / "names.yaml").write_text("rename: {a: Ours}\n")
    command = ["leaderboard", "--results", str(tmp_path), "--format", "csv", "--no-published"]
    shown = ["--models", "a", "b", "--columns", "1K", "--sort", "average"]
    assert cli.main([*command, *shown]) == 2
    assert "--sort 'average': no column is called so" in capsys.readouterr().err
    assert cli.main([*command, *shown[:-1], "S-NIAH-1 1K", "--names", str(tmp_path / "names.yaml")]) == 0
    out, err = capsys.readouterr()
    lines = list(csv.DictReader(io.StringIO(out)))
    assert [(line["name"], line["model"], line["value"]) for line in lines if line["value"]] == [
        ("b", "b", "0.49"),
        ("Ours", "a", "0.485"),
    ]
    assert {line["column"] for line in lines} >= {"niah_single_1@1024", "niah_multikey_1@1024"}
    assert f"copy{os.sep}record.json: a copy of" in err or f"b{os.sep}record.json: a copy of" in err
    assert "scores.acc.value: must be a finite number" in err
    assert cli.main([*command, "--models", "zz"]) == 2
    assert "--models 'zz': no row is called so; there are 'a', 'b', 'c'" in capsys.readouterr().err


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_does_nothing_in_any_format(name: str) -> None:
    table = hostile_table(name)
    texts = {form: FORMATS[form].write(table, intervals=True) for form in FORMATS}
    for text in texts.values():
        assert not {"\x1b", "\x07", "\u202e", "\r"} & set(text)
    check_markdown(texts["markdown"])
    assert not any(mark in texts["markdown"] for mark in ("<script", "[red]", "`", "**b**", "<img"))
    check_latex(texts["latex"])
    assert not any(mark in texts["html"] for mark in ("<script>alert", "<img", "<b>x"))
    assert json.loads(texts["json"])["rows"][0]["name"] == name
    cells = [field for line in csv.DictReader(io.StringIO(texts["csv"])) for field in line.values()]
    assert plain(name) in {field.removeprefix("'") for field in cells}
    assert not [field for field in cells if field.startswith(("=", "+", "-", "@"))]
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    print_summary(hostile_record(name), Path(name), console)
    shown = cast(io.StringIO, console.file).getvalue()
    assert "\x1b]" not in shown
    assert "\x07" not in shown
    assert plain(name)[:12] in shown


def test_latex_prints_every_hostile_name(tmp_path: Path) -> None:
    """All in one table, which pdfLaTeX or Tectonic compiles where one is here."""
    records = [place(hostile_record(name)) for name in HOSTILE]
    text = FORMATS["latex"].write(build_table(SUITE, records, published=False), intervals=True)
    log = compiled(text, tmp_path)
    if log is not None:
        assert "Missing character" not in log


@pytest.mark.parametrize(("models", "lengths"), [(20, 6), (3, 90), (110, 1)])
def test_a_table_that_is_taller_than_a_page_is_several_in_latex(models: int, lengths: int, tmp_path: Path) -> None:
    counts = [1024 + 8 * place for place in range(lengths)]
    runs = [
        replace(record(f"model of a long name, {number}", tuple(cell(length=count) for count in counts)), suite="tasks")
        for number in range(models)
    ]
    table = build_table(suite_of(runs, pytest.fail), [place(run) for run in runs])
    text = FORMATS["latex"].write(table, intervals=True)
    check_latex(text)
    assert text.count(r"\begin{table*}") > 2
    assert "(2 of " in text
    for number in range(models):  # once in each part of the numbers, and as a column of the intervals
        assert f"\nmodel of a long name, {number} &" in text
        assert f"& model of a long name, {number} " in text
    compiled(text, tmp_path)


def test_notes_that_fill_a_page_stand_in_a_float_of_their_own(tmp_path: Path) -> None:
    runs = [record(f"model {number}", (cell(spec=f"{number} " * 150),)) for number in range(20)]
    text = FORMATS["latex"].write(build_table(SUITE, [place(run) for run in runs], published=False))
    check_latex(text)
    assert text.count(r"\begin{table*}") > 1
    assert text.count("another definition") == 20
    compiled(text, tmp_path)


def hostile_record(name: str) -> RunRecord:
    return record(name=name, cells=(cell(context_prefix=name, spec=name), cell(length=2048)))


def hostile_table(name: str) -> Table:
    return build_table(SUITE, [place(hostile_record(name))], published=False)


def test_numbers_for_programs_are_as_the_records_have_them() -> None:
    third = {"acc": Score(value=1 / 3, unit="share", n=3, low=0.1, high=0.7)}
    runs = [record("a", (cell(scores=third),)), record("b", (cell(value=0.29),)), record("c", (cell(value=0.1),))]
    table = build_table(SUITE, [place(run) for run in runs])
    whole = json.loads(FORMATS["json"].write(table))
    rows = {(row["section"], row["name"]): row for row in whole["rows"]}
    first = rows["this harness", "a"]["cells"]["niah_single_1@1024"]
    assert (first["value"], first["low"], first["high"], first["n"]) == (1 / 3, 0.1, 0.7, 3)
    assert (first["mark"], first["run_id"], first["protocol_hash"]) == ("best", "a/x", "0" * 64)
    second = rows["this harness", "b"]["cells"]["niah_single_1@1024"]
    assert (second["value"], second["mark"], second["overlaps_best"]) == (0.29, "second", True)
    assert rows["this harness", "a"]["cells"]["niah_single_1@2048"] is None
    paper = rows["papers, recurrent", "Mamba-2"]
    assert paper["cells"]["niah_single_1@8192"]["value"] == 0.558
    assert paper["source"] == "arXiv:2605.22791v1, table 3"
    assert paper["cells"]["niah_single_1@8192"]["run_id"] is None
    lines = list(csv.DictReader(io.StringIO(FORMATS["csv"].write(table))))
    assert len(lines) == len(table.rows) * len(table.headers)
    (same,) = [line for line in lines if (line["name"], line["column"]) == ("a", "niah_single_1@1024")]
    assert (float(same["value"]), same["mark"], same["overlaps_best"]) == (1 / 3, "best", "false")
    (absent,) = [line for line in lines if (line["name"], line["column"]) == ("a", "niah_single_1@2048")]
    assert absent["value"] == absent["mark"] == ""


@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_table_is_valid_in_every_format(form: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "suite: own\ncolumns:\n  - {task: squad_retrieval, metric: contains, label: c, group: g}\n"
    )
    text = FORMATS[form].write(build_table(load_suite(tmp_path / "own.yaml"), []), intervals=True)
    if form == "json":
        assert json.loads(text)["rows"] == []
    elif form == "csv":
        assert len(text.splitlines()) == 1
    else:
        assert "no results yet" in text.lower()


@pytest.mark.parametrize("form", ["terminal", "markdown", "latex"])
def test_columns_that_nobody_has_are_a_line_and_no_empty_part(form: str) -> None:
    made = record(cells=(cell(length=4096), cell("niah_single_2", 8192)))
    text = FORMATS[form].write(build_table(load_suite("ruler"), [place(made)], published=False))
    said = " ".join(text.replace("{}", "").split())
    assert "Nothing was run in other columns: " in said
    assert "QA-1 4K, 8K, 16K, 32K, 64K, 128K; QA-2 4K" in said
    assert "QA-2" not in said[: said.index("Nothing was run")]


def test_a_wide_table_comes_in_parts_that_fit() -> None:
    """A page of GitHub is about 830 pixels; a digit has about nine."""
    suite = load_suite("commonsense-gdn2")
    text = FORMATS["markdown"].write(build_table(suite, []))
    check_markdown(text)
    heads = [line for line in text.splitlines() if line.startswith("| model |")]
    assert len(heads) == 2
    assert "".join(heads).count("<br>") == 11  # each column once, the two of LAMBADA in one cell


def test_ordinary_names_stay_as_they_are() -> None:
    for name in ("gdn2-tiny", "Mamba-3 (SISO)", "iter_000_x", "ünï 中文 é", "a.b,c:d/e=f+g"):
        assert plain(name) == markdown(name) == name
    assert plain("a\nb\x85\u2028") == "a\\x0ab\\x85\\u2028"
    assert markdown("_a_") == "&#95;a&#95;"
    assert markdown("$x$") == "&#36;x&#36;"
