"""A whole run on a small random checkpoint: what it writes, what it keeps when it is killed, what it never mixes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, cast

import pytest
from fakes import small_checkpoint
from rich.console import Console
from runs import run

from harness.lm.model import GDN2LM
from harness.records.record import RunRecord, read_record
from harness.runs import runner
from harness.runs.options import RunOptions

TASKS = ("niah_single_1@512", "niah_single_1@700")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("checkpoints") / "small")


def options(checkpoint: Path, output: Path, **changes: Any) -> RunOptions:
    fields: dict[str, Any] = {
        "checkpoint": str(checkpoint),
        "tasks": TASKS,
        "samples": 3,
        "output": output,
        "batch_size": 2,
    }
    return RunOptions(**{**fields, **changes})


def execute(options: RunOptions) -> tuple[RunRecord, Path, str]:
    console = Console(file=io.StringIO(), width=200)
    record, folder = run(options, console)
    return record, folder, cast(io.StringIO, console.file).getvalue()


def die_in_the_second_task(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Interrupt a run once, in its second task; returns the list to which every task that is begun is added."""
    original, asked = runner.measure, []

    def measure_or_die(model: Any, tasks: Any, terms: Any, journal: Any) -> Any:
        (task,) = tasks
        asked.append(task.config.task)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return original(model, tasks, terms, journal)

    monkeypatch.setattr(runner, "measure", measure_or_die)
    return asked


def responses(folder: Path) -> dict[str, list[Any]]:
    found = {}
    for file in sorted(folder.glob("samples_*.jsonl")):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        found[rows[0]["doc"]["sample_hash"]] = [(row["doc_id"], row["resps"], row["acc"]) for row in rows]
    return found


@pytest.fixture(scope="module")
def finished(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunRecord, Path, str]:
    return execute(options(checkpoint, tmp_path_factory.mktemp("out")))


def test_a_run_leaves_results_samples_and_a_record(finished: tuple[RunRecord, Path, str]) -> None:
    record, folder, _ = finished
    assert read_record(folder / "record.json") == record
    (results,) = folder.glob("results_*.json")
    content = json.loads(results.read_text())
    assert set(content["results"]) == {"gdn2_niah_single_1_512", "gdn2_niah_single_1_700"}
    assert content["n-samples"]["gdn2_niah_single_1_512"] == {"original": 3, "effective": 3}
    assert content["config"]["checkpoint_sha256"] == record.model.checkpoint_sha256
    assert content["model_name"].endswith("small")
    assert len(list(folder.glob("samples_*.jsonl"))) == 2
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name]


def test_a_cell_says_what_fixes_its_meaning(finished: tuple[RunRecord, Path, str]) -> None:
    cell = finished[0].cells[1]
    said = cell.protocol
    assert (said.name, said.length, said.samples, said.seed) == ("niah_single_1", 700, 3, 42)
    assert said.max_length == 700  # the checkpoint's window is 256: a recurrent model has no limit of its own
    assert cell.truncated == 0
    assert cell.mean_fill == 1.0
    assert (cell.tokens or 0) <= 3 * 700
    score = cell.scores["acc"]
    assert (score.n, score.unscored) == (3, 0)
    assert score.low is not None


def test_max_length_cuts_and_is_counted(checkpoint: Path, tmp_path: Path) -> None:
    record, _, text = execute(options(checkpoint, tmp_path, tasks=TASKS[:1], max_length=400))
    assert record.cells[0].truncated == 3
    assert "3 requests cut" in text


def test_batch_size_changes_neither_responses_nor_protocol(
    checkpoint: Path, finished: tuple[RunRecord, Path, str], tmp_path: Path
) -> None:
    record, folder, _ = execute(options(checkpoint, tmp_path, batch_size=5))
    assert record.protocol_hash == finished[0].protocol_hash
    assert responses(folder) == responses(finished[1])


@pytest.mark.parametrize("changes", [{"seed": 1}, {"samples": 2}, {"context_prefix": "bos"}, {"dtype": "float64"}])
def test_what_changes_numbers_changes_the_protocol(
    checkpoint: Path, finished: tuple[RunRecord, Path, str], tmp_path: Path, changes: dict[str, Any]
) -> None:
    record, _, _ = execute(options(checkpoint, tmp_path, tasks=TASKS[:1], **changes))
    plain, _, _ = execute(options(checkpoint, tmp_path, tasks=TASKS[:1]))
    assert record.protocol_hash != plain.protocol_hash
    assert plain.protocol_hash != finished[0].protocol_hash


def test_a_second_run_stands_beside_the_first(checkpoint: Path, tmp_path: Path) -> None:
    places = {execute(options(checkpoint, tmp_path, tasks=TASKS[:1]))[1] for _ in range(2)}
    assert len(places) == 2
    assert all((place / "record.json").is_file() for place in places)


def test_a_killed_run_goes_on_where_it_was(
    checkpoint: Path, finished: tuple[RunRecord, Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = die_in_the_second_task(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        execute(options(checkpoint, tmp_path))
    assert not list(tmp_path.rglob("record.json"))
    record, folder, text = execute(options(checkpoint, tmp_path, batch_size=1))
    assert asked == ["gdn2_niah_single_1_512", "gdn2_niah_single_1_700", "gdn2_niah_single_1_700"]
    assert "from an interrupted run" in text
    assert responses(folder) == responses(finished[1])
    assert record.protocol_hash == finished[0].protocol_hash
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_another_checkpoint_never_takes_over_finished_tasks(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = die_in_the_second_task(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        execute(options(checkpoint, tmp_path, name="same"))
    other = small_checkpoint(tmp_path / "other", seed=5)
    execute(options(other, tmp_path, name="same"))
    assert len(asked) == 4


def test_the_same_by_lm_eval_itself(checkpoint: Path, finished: tuple[RunRecord, Path, str]) -> None:
    """`lm_eval --include_path tasks` asks the same questions and gives the same answers."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(
        include_path=str(runner.machine.ROOT / "tasks"),
        include_defaults=False,
        metadata={"pretrained": str(checkpoint), "max_samples": 3},
    )
    model = GDN2LM(str(checkpoint), max_length=512)
    out = simple_evaluate(model=model, tasks=["gdn2_niah_single_1_512"], task_manager=manager, bootstrap_iters=0)
    rows = out["samples"]["gdn2_niah_single_1_512"]
    ours = responses(finished[1])[rows[0]["doc"]["sample_hash"]]
    assert [(row["doc_id"], row["resps"], row["acc"]) for row in rows] == [tuple(row) for row in ours]
