"""A generator chosen on the command line reaches the plan, with its own seed."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruler_data import write_ruler_data

from harness.errors import UserError
from harness.runs.options import RunOptions
from harness.runs.resolve import resolve_run


@pytest.fixture(autouse=True)
def small_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDN2_DATA", str(write_ruler_data(tmp_path / "data")))
    monkeypatch.chdir(tmp_path)


def test_the_generator_of_the_command_line_replaces_the_suites() -> None:
    plan = resolve_run(RunOptions(checkpoint="gdn2-tiny", suite="ruler_table3", generator="lm-eval"))
    assert {(task.generator, task.seed) for task in plan.tasks} == {("lm-eval", 0)}
    plan = resolve_run(RunOptions(checkpoint="gdn2-tiny", suite="ruler-niah", generator="nvidia", seed=7))
    assert {(task.generator, task.seed) for task in plan.tasks} == {("nvidia", 7)}
    plan = resolve_run(RunOptions(checkpoint="gdn2-tiny", suite="ruler_table3"))
    assert {(task.generator, task.seed) for task in plan.tasks} == {("exact", 42)}


def test_a_suite_names_its_generator(tmp_path: Path) -> None:
    column = "{task: vt, length: 4096, metric: acc, samples: 2, label: '4K', group: VT}"
    suite = tmp_path / "mine.yaml"
    suite.write_text(f"suite: mine\nprotocol: {{generator: nvidia-26.3}}\ncolumns: [{column}]\n")
    plan = resolve_run(RunOptions(checkpoint="gdn2-tiny", suite=str(suite)))
    assert [task.generator for task in plan.tasks] == ["nvidia-26.3"]


def test_a_generator_without_a_task_of_ruler_is_a_mistake() -> None:
    with pytest.raises(UserError, match="--generator nvidia: none of these tasks is one of RULER's"):
        resolve_run(RunOptions(checkpoint="gdn2-tiny", tasks=("squad_retrieval",), generator="nvidia"))
