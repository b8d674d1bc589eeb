"""Tasks that an interrupted run had finished: found again, of the former form too; anything else runs again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from records import cell

from harness.errors import UserError
from harness.records.finished import FinishedTask, FinishedTasks
from harness.records.protocol import digest
from harness.records.record import read_record

CELL = cell()
NAME = CELL.lm_eval_name
RESULT = {"results": {NAME: {"acc,none": 0.5}}, "samples": {NAME: [{"doc_id": 0}]}}
SHIPPED = Path(__file__).with_name("data") / "record_of_schema_3.json"
"""The record of gdn2-tiny that an earlier version shipped."""


def saved(folder: Path) -> tuple[FinishedTasks, Path]:
    tasks = FinishedTasks(folder, "key")
    tasks.save(NAME, FinishedTask(CELL, RESULT), str)
    return tasks, tasks.folder / f"{NAME}.json"


def test_a_finished_task_is_found_again_by_the_same_run_only(tmp_path: Path) -> None:
    tasks, _ = saved(tmp_path)
    assert FinishedTasks(tmp_path, "key").load(NAME, CELL.protocol) == FinishedTask(CELL, RESULT)
    assert FinishedTasks(tmp_path, "other").load(NAME, CELL.protocol) is None
    assert tasks.load("unknown", CELL.protocol) is None
    assert tasks.load(NAME, replace(CELL.protocol, seed=7)) is None
    tasks.clear()
    assert list(tmp_path.iterdir()) == []


def test_a_task_that_an_earlier_version_finished_is_found(tmp_path: Path) -> None:
    """The form of schema 3, with the cells and the protocol of the shipped record."""
    raw, record = json.loads(SHIPPED.read_text()), read_record(SHIPPED)
    tasks = FinishedTasks(tmp_path, "key")
    tasks.folder.mkdir(parents=True)
    for old, new in zip(raw["cells"], record.cells, strict=True):
        name = new.lm_eval_name
        content = {"results": {name: {}}, "samples": {name: []}}
        (tasks.folder / f"{name}.json").write_text(json.dumps({"task": name, "cell": old, "result": content}))
        assert tasks.load(name, new.protocol) == FinishedTask(new, content)


def test_the_shipped_runs_identity_has_not_changed() -> None:
    """The hash of its protocol, which tables show, and what an interrupted run of it would be found by."""
    raw, record = json.loads(SHIPPED.read_text()), read_record(SHIPPED)
    assert record.protocol.hash == record.protocol_hash == raw["protocol_hash"] == digest(raw["protocol"])
    assert record.protocol_hash.startswith("760098a2")
    key = digest([record.model.checkpoint_sha256, record.protocol.hash])[:16]
    assert key == digest([raw["model"]["checkpoint_sha256"], raw["protocol_hash"]])[:16]


def _set(path: str, value: Any) -> Any:
    def change(raw: dict[str, Any]) -> None:
        *trail, last = path.split(".")
        for step in trail:
            raw = raw[step]
        raw[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("cell.newer", 1), "cell: unknown field 'newer'"),
        (_set("cell", None), "cell: must have fields, got null"),
        (_set("cell.scores.acc.value", "high"), "cell: scores.acc.value: must be a number, got 'high'"),
        (_set("cell.protocol.samples", 1), "cell.protocol: not that of this run"),
        (_set("schema", 99), "schema: not one that this version reads"),
        (_set("schema", True), "schema: not one that this version reads"),
        (_set("schema", 3), "field 'task' is missing"),
        (_set("task", "another"), "task: this is not what a run saves of"),
        (_set("result", []), "result.results: no result of lm-eval"),
        (_set("result.samples", {NAME: 5}), "no samples of lm-eval"),
        (_set("result.samples", {NAME: [5]}), "no samples of lm-eval"),
    ],
)
def test_what_cannot_be_taken_is_said_and_runs_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Any, said: str
) -> None:
    tasks, file = saved(tmp_path)
    raw = json.loads(file.read_text())
    change(raw)
    file.write_text(json.dumps(raw))
    assert tasks.load(NAME, CELL.protocol) is None
    assert said in caplog.text
    assert "the task runs again" in caplog.text


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '"a"', "\x00", "[" * 100_000, '{"task": "\\ud800"}'])
def test_damaged_files_run_again(tmp_path: Path, text: str) -> None:
    tasks, file = saved(tmp_path)
    file.write_text(text)
    assert tasks.load(NAME, CELL.protocol) is None


def test_a_disk_that_cannot_take_a_task_is_named(tmp_path: Path) -> None:
    tasks, file = saved(tmp_path)
    file.unlink()
    file.mkdir()
    (file / "x").write_text("")
    with pytest.raises(UserError, match=r"cannot be written .*What is finished is kept: make room"):
        tasks.save(NAME, FinishedTask(CELL, RESULT), str)
