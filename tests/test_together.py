"""Tasks that begin alike are found, run in one call, and get what each gets alone; what they share is read once."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from fakes import small_checkpoint
from rich.console import Console
from runs import run

from gdn2.checkpoints import read_config
from harness.records.record import RunRecord, read_record
from harness.runs import together
from harness.runs.census import count
from harness.runs.options import RunOptions
from harness.runs.resolve import resolve_run
from harness.runs.together import BLOCK, MOST_BYTES, groups

TASKS = ("niah_single_1@512", "niah_single_1@700", "niah_multikey_2@512")


def texts(*sizes: int, start: str = "", kind: str = "generate_until") -> list[tuple[str, str]]:
    return [(kind, (start + chr(97 + i)) * size) for i, size in enumerate(sizes)]


def test_tasks_with_the_same_documents_are_one_group_where_the_first_of_them_stands() -> None:
    own, documents = texts(4 * BLOCK, 4 * BLOCK, start="x"), texts(4 * BLOCK, 3 * BLOCK)
    longer = [(kind, text + "?" * 700) for kind, text in documents]
    assert groups([own, documents, texts(9 * BLOCK, start="y"), longer]) == [[0], [1, 3], [2]]


def test_a_beginning_counts_as_a_whole_and_only_among_requests_of_a_kind() -> None:
    text = "".join(f"{i:08d}" for i in range(1024))
    assert groups([[("a", text)], [("a", "!" + text)]]) == [[0], [1]]
    assert groups([[("a", text)], [("a", text[: BLOCK - 1])]]) == [[0], [1]]
    assert groups([[("a", text)], [("b", text)]]) == [[0], [1]]
    assert groups([[("a", text)], [("a", text)]]) == [[0, 1]]


def test_a_template_that_is_shared_is_no_reason_to_wait_for_each_other() -> None:
    tasks = [[("a", "t" * BLOCK + f"{task}{i}" * 20 * BLOCK) for i in range(9)] for task in range(3)]
    assert groups(tasks) == [[0], [1], [2]]


def test_groups_stay_within_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [texts(4 * BLOCK), texts(4 * BLOCK), texts(4 * BLOCK)]
    assert MOST_BYTES > 12 * BLOCK
    assert groups(tasks) == [[0, 1, 2]]
    monkeypatch.setattr(together, "MOST_BYTES", 8 * BLOCK)
    assert groups(tasks) == [[0, 1], [2]]


def test_no_task_and_one_task_are_not_looked_at() -> None:
    def never() -> Iterator[tuple[str, str]]:
        yield pytest.fail("looked at")

    assert groups([]) == []
    assert groups([never()]) == [[0]]


def test_tasks_that_are_run_together_give_what_each_gives_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The noise of two lengths begins alike; each keeps its own limit, its own cell and its own place."""
    checkpoint = small_checkpoint(tmp_path / "small")

    def execute(share: float) -> tuple[RunRecord, list[str], str, list[Any]]:
        monkeypatch.setattr(together, "BLOCK", 256)
        monkeypatch.setattr(together, "SHARE", share)
        fields: dict[str, Any] = {
            "checkpoint": str(checkpoint),
            "tasks": TASKS,
            "samples": 4,
            "device": "cpu",
            "dtype": "float64",
        }
        options = RunOptions(**fields, output=tmp_path / str(share))
        console = Console(file=io.StringIO(), width=200)
        census = count(resolve_run(options), read_config(checkpoint), lambda _: None)
        _, folder = run(options, console)
        files = [file.read_text() for file in sorted(folder.glob("samples_*"))]
        return read_record(folder / "record.json"), files, cast(io.StringIO, console.file).getvalue(), census

    (alone, samples, _, before), (grouped, same, said, after) = execute(2.0), execute(0.001)
    assert same == samples
    assert grouped.protocol_hash == alone.protocol_hash
    assert [cell.scores for cell in grouped.cells] == [cell.scores for cell in alone.cells]
    assert [cell.together for cell in alone.cells] == [()] * 3
    assert [len(cell.together) for cell in grouped.cells] == [1, 1, 0]
    assert [line.split()[:2] for line in said.splitlines() if "tokens/s" in line] == [
        [f"{i + 1}/3", task] for i, task in enumerate(TASKS)
    ]
    for record, census in ((alone, before), (grouped, after)):
        assert [task.shared_tokens for task in census] == [cell.shared_tokens for cell in record.cells]
        for task, cell in zip(census, record.cells, strict=True):
            assert 0 < (cell.tokens or 0) <= task.tokens
            assert (cell.seconds or 0) > 0
    a, b = (sum(cell.tokens or 0 for cell in record.cells) for record in (alone, grouped))
    c, d = (sum(cell.shared_tokens or 0 for cell in record.cells) for record in (alone, grouped))
    assert a - b == d - c > 100


def test_a_group_that_is_interrupted_goes_on_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two tasks is missing: both are asked again, and the journal knows the answers of the first."""
    from harness.runs import runner

    monkeypatch.setattr(together, "BLOCK", 256)
    monkeypatch.setattr(together, "SHARE", 0.001)
    checkpoint = small_checkpoint(tmp_path / "small")
    options = RunOptions(
        checkpoint=str(checkpoint), tasks=TASKS[:2], samples=3, device="cpu", output=tmp_path / "out"
    )  # fmt: skip
    whole, folder = run(options, Console(file=io.StringIO()))
    expected = [json.loads(line)["resps"] for file in sorted(folder.glob("samples_*")) for line in file.open()]
    save, saved = runner.FinishedTasks.save, []

    def die(self: runner.FinishedTasks, task: str, *rest: Any) -> None:
        saved.append(task)
        if len(saved) == 2:
            raise KeyboardInterrupt
        save(self, task, *rest)

    monkeypatch.setattr(runner.FinishedTasks, "save", die)
    with pytest.raises(KeyboardInterrupt):
        run(options, Console(file=io.StringIO()))
    console = Console(file=io.StringIO(), width=200)
    record, folder = run(options, console)
    assert "6 finished requests of an interrupted run are taken up" in cast(io.StringIO, console.file).getvalue()
    assert [json.loads(line)["resps"] for file in sorted(folder.glob("samples_*")) for line in file.open()] == expected
    assert [cell.scores for cell in record.cells] == [cell.scores for cell in whole.cells]
    assert [cell.tokens for cell in record.cells] == [cell.tokens for cell in whole.cells]
