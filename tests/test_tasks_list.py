"""What `tasks list` says: a line for each task and suite at any width, by words, with what is staged."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from harness.errors import UserError
from harness.show.tasks import print_tasks
from tasks.registry import list_suites, list_tasks


def listing(width: int, *words: str) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    print_tasks(console, words)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 140])
def test_each_task_and_suite_is_one_line_with_its_whole_name(width: int) -> None:
    lines = listing(width)
    for name in [info.name for info in list_tasks()] + [suite.name for suite in list_suites()]:
        assert any(line.split()[0] == name for line in lines if line.strip()), name
    families = {info.family for info in list_tasks()}
    assert len(lines) <= len(list_tasks()) + len(list_suites()) + len(families) + 9
    assert max(map(len, lines)) <= width


def test_words_choose_by_name_family_suite_and_description() -> None:
    def chosen(*words: str) -> set[str]:
        known = {info.name for info in list_tasks()}
        return {line.split()[0] for line in listing(100, *words) if line.strip()} & known

    assert chosen("niah", "MULTIKEY") == {"niah_multikey_1", "niah_multikey_2", "niah_multikey_3"}
    assert chosen("ruler_table3") == {"niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1"}
    assert "edit_forget" in chosen("editing")
    assert "vt" in chosen("variables")
    with pytest.raises(UserError, match="no task or suite holds 'xyzzy'; families are commonsense, "):
        listing(80, "xyzzy")


def test_whether_data_are_staged_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDN2_DATA", str(tmp_path))
    assert any(line.split()[:3] == ["niah_single_2", "not", "staged"] for line in listing(80, "niah_single"))
    (tmp_path / "essays.json").write_text(json.dumps({"text": "x"}))
    lines = listing(80, "niah_single")
    assert any(line.split()[:2] == ["niah_single_2", "staged"] for line in lines)
    assert any(line.split()[:2] == ["niah_single_1", "S-NIAH-1:"] for line in lines)
