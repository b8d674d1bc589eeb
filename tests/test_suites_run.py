"""The papers' suites from rows to the table's row, on a small random checkpoint with fabricated data sets."""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import small_checkpoint
from lm_eval_rows import ROWS, TASKS, TRAINING
from rich.console import Console
from runs import run

from gdn2.checkpoints import tokenizer_fingerprint
from harness.errors import UserError
from harness.records.leaderboard import build_table
from harness.records.record import RunRecord
from harness.runs.options import RunOptions
from harness.runs.resolve import resolve_run
from harness.show.markdown import to_markdown
from harness.show.terminal import to_text
from tasks import data
from tasks.data import DataNotStaged
from tasks.registry import load_suite


@pytest.fixture(scope="module", autouse=True)
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("staged")
    training = {f"{name}_train.jsonl": rows for name, rows in TRAINING.items()}
    for name, rows in {**{f"{name}.jsonl": rows for name, (_, rows) in TASKS.items()}, **training, **ROWS}.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDN2_DATA", str(folder))
        yield folder


def execute(suite: str, folder: Path, **options: Any) -> tuple[RunRecord, Path]:
    checkpoint = str(small_checkpoint(folder / "small"))
    fields: dict[str, Any] = {"suite": suite, "output": folder / "out", "batch_size": 4, "device": "cpu", **options}
    return run(RunOptions(checkpoint=checkpoint, **fields), Console(file=io.StringIO(), width=200))


def test_commonsense_runs_to_nine_accuracies_and_their_mean(tmp_path: Path) -> None:
    record, folder = execute("commonsense-gdn2", tmp_path)
    suite = load_suite("commonsense-gdn2")
    assert {cell.protocol.max_length for cell in record.cells} == {4096}
    assert len(record.cells) == 10
    scores = {cell.protocol.name: cell.scores for cell in record.cells}
    assert scores["lambada_openai"]["perplexity"].value > 1
    low, high = scores["lambada_openai"]["perplexity"].low, scores["lambada_openai"]["perplexity"].high
    assert low is not None
    assert high is not None
    assert low < scores["lambada_openai"]["perplexity"].value < high
    assert math.isfinite(scores["wikitext"]["word_perplexity"].value)
    assert {name: score["acc"].n for name, score in scores.items() if "acc" in score} == {
        name: len(rows) for name, (_, rows) in TASKS.items() if name != "wikitext"
    }
    table = build_table(suite, [(folder, record)])
    (ours,) = [row for row in table.rows if row.section == "this harness"]
    named = {column.name: entry for column, entry in zip(suite.columns, ours.entries, strict=False)}
    assert all(entry is not None and entry.notes == () for entry in ours.entries)
    mean, parts = ours.entries[-1], [named[name] for name in suite.averages[0].of]
    assert mean is not None
    assert mean.value == pytest.approx(sum(part.value for part in parts if part is not None) / 9)


def test_a_suite_runs_on_what_a_package_holds_and_says_what_is_missing_and_marked(
    tmp_path: Path, staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WikiText and LAMBADA come from the hub only: the cells are empty, the others marked by the hash of their rows."""
    files = tmp_path / "data"
    shutil.copytree(staged, files, ignore=shutil.ignore_patterns("wikitext*", "lambada*", "*_train*"))
    monkeypatch.setenv("GDN2_DATA", str(files))
    with pytest.raises(DataNotStaged, match=r"wikitext\.jsonl, lambada_openai\.jsonl not staged"):
        execute("commonsense-gdn2", tmp_path)  # rows of the hub: a stage that was broken off
    sums = {file.name: data.file_sha256(file) for file in files.iterdir()}
    (files / "manifest.json").write_text(json.dumps({"files": {name: {"sha256": sums[name]} for name in sums}}))
    monkeypatch.setattr(data, "source_note", lambda name, sha: "other rows" if sums.get(name) == sha else None)
    record, folder = execute("commonsense-gdn2", tmp_path, samples=1)
    assert {cell.protocol.name for cell in record.cells} == set(TASKS) - {"wikitext", "lambada_openai"}
    table = build_table(load_suite("commonsense-gdn2"), [(folder, record)])
    (ours,) = [row for row in table.rows if row.section == "this harness"]
    assert [entry is None for entry in ours.entries] == [True] * 3 + [False] * 8 + [True]
    assert all("other rows" in [table.notes[note - 1] for note in entry.notes] for entry in ours.entries if entry)
    assert table.missing == [f"{record.name}: wikitext, lambada_openai"]
    assert "Not run, no package has the rows" in to_text(table)
    assert "Not run, no package has the rows" in to_markdown(table)
    with pytest.raises(DataNotStaged, match=r"piqa_train.* which only the hub has; --shots 0 needs none"):
        execute("commonsense-gdn2", tmp_path, shots=1)
    (files / "piqa.jsonl").unlink()
    with pytest.raises(DataNotStaged, match=r"piqa\.jsonl.* not staged"):
        execute("commonsense-gdn2", tmp_path)


def test_shots_are_part_of_the_protocol_and_never_share_a_column_unmarked(tmp_path: Path) -> None:
    few, folder = execute("commonsense-gdn2", tmp_path, shots=2)
    shots = {cell.protocol.name: cell.protocol.shots for cell in few.cells}
    assert shots == {name: 2 if name in TRAINING else 0 for name in shots}
    assert {task.name: task.shots for task in few.protocol.tasks} == shots
    assert all("shots" not in task.as_dict() for task in few.protocol.tasks if not task.shots)
    piqa = next(task for task in few.protocol.tasks if task.name == "piqa")
    assert set(piqa.data or ()) == {"piqa.jsonl", "piqa_train.jsonl"}
    none, _ = execute("commonsense-gdn2", tmp_path / "zero", tasks=("piqa",))
    some, _ = execute("commonsense-gdn2", tmp_path / "some", tasks=("piqa",), shots=1)
    assert len({record.protocol_hash for record in (few, none, some)}) == 3
    (samples,) = folder.glob("samples_gdn2_piqa_*.jsonl")
    asked = json.loads(samples.read_text().splitlines()[0])["arguments"]["gen_args_0"]["arg_0"]
    assert asked.count("Question: ") == 3
    table = build_table(load_suite("commonsense-gdn2"), [(folder, few)])
    assert "2 solved examples instead of 0" in table.notes
    with pytest.raises(UserError, match="--shots 2: none of these tasks takes solved examples"):
        execute("retrieval-2k", tmp_path, shots=2)


def test_retrieval_runs_to_six_scores_and_counts_what_it_dropped(tmp_path: Path) -> None:
    record, folder = execute("retrieval-2k", tmp_path)
    cells = {cell.protocol.name: cell for cell in record.cells}
    counts = cells["jrt_swde"].documents
    assert counts.items() >= {"rows": 3, "dropped": 1, "cut": 0, "without_answer": 0, "given_away": 0}.items()
    assert cells["jrt_drop"].documents["given_away"] == 1  # its answer has one character, which DROP does not drop
    assert all("empty_answers" in cell.documents for cell in record.cells)
    assert {cell.context_prefix for cell in record.cells} == {"none"}
    assert {cell.truncated for cell in record.cells} == {0}
    assert cells["jrt_nq"].scores["contains"].n == 1
    (samples,) = folder.glob("samples_gdn2_jrt_swde_2048_*.jsonl")
    document = json.loads(samples.read_text().splitlines()[0])["doc"]
    assert (document["is_cut"], document["source_rows"], document["dropped_rows"]) == (False, 3, 1)
    table = build_table(load_suite("retrieval-2k"), [(folder, record)])
    assert next(row for row in table.rows if row.section == "this harness").entries[-1] is not None


def test_a_suite_without_its_data_says_all_that_is_missing(
    tmp_path: Path, staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    for name in ("based_swde.jsonl", "based_squad.jsonl"):
        (tmp_path / "data" / name).write_bytes((staged / name).read_bytes())
    monkeypatch.setenv("GDN2_DATA", str(tmp_path / "data"))
    missing = "based_fda.jsonl, based_triviaqa.jsonl, based_nq_2048.jsonl, based_drop.jsonl not staged in "
    with pytest.raises(DataNotStaged, match=missing + r".*run `python run_eval\.py stage retrieval-2k`"):
        execute("retrieval-2k", tmp_path)


def test_a_staged_tokenizer_is_found_by_its_name_and_hashed(
    tmp_path: Path, staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = small_checkpoint(tmp_path / "small")
    options = RunOptions(checkpoint=str(checkpoint), tokenizer="some/model", output=tmp_path)
    with pytest.raises(UserError, match=r"not staged; .*run `python run_eval\.py stage --tokenizer some/model`"):
        run(options, Console(file=io.StringIO()))
    monkeypatch.setenv("GDN2_DATA", str(tmp_path / "data"))
    folder = data.tokenizer_dir("some/model")
    folder.mkdir(parents=True)
    for file in checkpoint.glob("tokenizer*"):
        (folder / file.name).write_bytes(file.read_bytes())
    options = replace(options, tasks=("niah_single_1@512",))
    assert resolve_run(options).tokenizer == str(folder)
    assert tokenizer_fingerprint(folder) == tokenizer_fingerprint(checkpoint)
    assert resolve_run(replace(options, tokenizer=None)).tokenizer == str(checkpoint)
    assert staged
