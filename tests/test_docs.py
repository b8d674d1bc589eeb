"""Documentation that is run: the blocks of docs/api.md and the scripts of examples/; files that name the version."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import gdn2
from basis.version import VERSION

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of one's own where nothing is staged: what is shown needs no data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GDN2_DATA", str(tmp_path / "data"))
    torch.manual_seed(0)


def test_every_block_of_the_python_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """In one session, as the page says; a traceback has the page's own line numbers."""
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    session: dict[str, Any] = {}
    blocks = list(BLOCK.finditer(page))
    assert len(blocks) == page.count("```python") == page.count("```") // 2
    for block in blocks:
        above = page.count("\n", 0, block.start(1))
        exec(compile("\n" * above + block[1], "docs/api.md", "exec"), session)
    assert "niah_single_1@512: " in capsys.readouterr().out


def test_the_python_page_shows_every_public_name() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    shown = "\n".join(block[1] for block in BLOCK.finditer(page))
    assert not [name for name in gdn2.__all__ if name not in shown and name != "GDN2Model"]
    assert gdn2.__version__ == VERSION


def test_a_needle_by_hand_is_found_on_both_branches() -> None:
    assert [answer.strip()[:7] for answer in example("needle_by_hand")["main"]()] == ["4071958", "8213366"]


def test_an_evaluation_from_python_prints_its_cells(capsys: pytest.CaptureFixture[str]) -> None:
    example("evaluate")["main"](samples=1)
    out = capsys.readouterr().out
    assert re.search(r"^niah_single_1@512  acc [01]\.000 \(0\.\d+ to [01]\.\d+, n=1\)$", out, flags=re.MULTILINE)


def test_a_task_of_ones_own_is_written_and_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example("own_task")["main"]()
    assert re.search(r"^door_codes: acc \d\.\d\d of 4 samples of 256 tokens$", capsys.readouterr().out, re.MULTILINE)
    assert (tmp_path / "door_codes.yaml").is_file()


def test_every_example_has_a_test_and_says_how_it_is_called() -> None:
    tested = set(re.findall(r'example\("(\w+)"\)', Path(__file__).read_text(encoding="utf-8")))
    assert {path.stem for path in EXAMPLES} == tested
    for path in EXAMPLES:
        assert f"    python examples/{path.name}" in path.read_text(encoding="utf-8")


def test_the_changelog_and_the_citation_know_this_version() -> None:
    assert f"## [{VERSION}] - " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert str(yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"]) == VERSION


def test_the_workflow_and_the_hooks_run_the_commands_of_the_readme() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["test"]["steps"][-1] == {"run": ".ci/run"}
    command = (ROOT / "README.md").read_text(encoding="utf-8").split("## Tests")[1]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    for hook in hooks:
        assert f".venv/bin/{hook['entry'].removesuffix(' --force-exclude')}" in command


def example(name: str) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "examples" / f"{name}.py"))
