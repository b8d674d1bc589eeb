"""The formats of tables: chosen by name or ending, and safe against what stands in names."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from records import cell, place, record
from rich.console import Console

from harness.cli import main as cli
from harness.errors import UserError
from harness.records.leaderboard import build_table
from harness.records.named_tasks import suite_of
from harness.show.formats import FORMATS, format_for
from harness.show.plain import markdown, plain
from harness.show.summary import print_summary
from tasks.registry import load_suite

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = ("a\x1b]0;title\x07", "b|c\n| d", "<script>alert(1)</script>", "[red]x[/red]", "\u202eevil", "`c` **b** _i_")


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


def test_the_command_writes_a_file_by_its_ending(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "record.json").write_text(record(cells=(cell(),)).to_json())
    for name, start in (("t.md", "| model |"), ("t.txt", "ruler_table3")):
        assert cli.main(["leaderboard", "--results", str(tmp_path), "--output", str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_text().startswith(start)
    assert cli.main(["leaderboard", "--results", str(tmp_path), "--output", str(tmp_path / "no" / "t.md")]) == 2
    assert "t.md: cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_does_nothing_in_any_format(name: str) -> None:
    odd = record(name=name, cells=(cell(context_prefix=name, spec=name),))
    table = build_table(load_suite("ruler_table3"), [place(odd)], published=False)
    for form in FORMATS.values():
        text = form.write(table)
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
    lines = [line for line in FORMATS["markdown"].write(table).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {16}
    assert not any(mark in lines[-1] for mark in ("<script", "[red]", "`", "**b**"))
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    print_summary(odd, Path(name), console)
    shown = cast(io.StringIO, console.file).getvalue()
    assert "\x1b]" not in shown
    assert "\x07" not in shown
    assert plain(name)[:12] in shown


def test_ordinary_names_stay_as_they_are() -> None:
    for name in ("gdn2-tiny", "Mamba-3 (SISO)", "iter_000_x", "ünï 中文 é", "a.b,c:d/e=f+g"):
        assert plain(name) == markdown(name) == name
    assert plain("a\nb\x85\u2028") == "a\\x0ab\\x85\\u2028"
    assert markdown("_a_") == "&#95;a&#95;"
