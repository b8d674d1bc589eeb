"""Results of lm-eval's own runs become records: what they say is taken, what they do not say is unknown."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.report import make_report
from harness.analysis.selection import FoundRun
from harness.errors import UserError
from harness.paths import ROOT
from harness.records.columns import AddedColumn
from harness.records.leaderboard import build_table
from harness.records.lm_eval_records import AddedRun, add_results
from harness.records.named_tasks import suite_of
from harness.records.record import read_record
from harness.records.samples import read_samples
from harness.show.report.page import to_html
from tasks.registry import Column, load_suite, resolve

DATA = Path(__file__).parent / "data" / "lm_eval"
VERSIONS = ("0.4.3", "0.4.9", "0.4.13")


def results_file(folder: Path) -> Path:
    (file,) = folder.glob("results_*.json")
    return file


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder of lm-eval 0.4.13's results that a test may change."""
    return Path(shutil.copytree(DATA / "0.4.13", tmp_path / "theirs"))


def edit(file: Path, change: Callable[[Any], Any]) -> None:
    raw = json.loads(file.read_text(encoding="utf-8"))
    change(raw)
    file.write_text(json.dumps(raw), encoding="utf-8")


def rename(raw: Any, task: str, new: str) -> None:
    for part in ("results", "configs", "versions", "n-shot", "higher_is_better", "n-samples"):
        raw[part][new] = raw[part].pop(task)


def add(folder: Path, output: Path) -> AddedRun:
    return add_results(results_file(folder), output)


@pytest.mark.parametrize("version", VERSIONS)
def test_results_of_each_format_become_the_same_cells_with_their_filters(version: str, tmp_path: Path) -> None:
    done = add(DATA / version, tmp_path)
    assert read_record(done.folder / "record.json") == done.record
    scores = {
        (cell.protocol.name, metric): (round(score.value, 4), score.unit, score.n)
        for cell in done.record.cells
        for metric, score in cell.scores.items()
    }
    assert scores == {
        ("facts_choice", "acc"): (1.0, "share", 3),
        ("facts_choice", "acc_norm"): (0.6667, "share", 3),
        ("facts_generate", "exact_match,strict"): (0.0, "share", 3),
        ("facts_generate", "exact_match,flexible"): (0.0, "share", 3),
        ("facts_text", "word_perplexity"): (408982.5627, "perplexity", 3),
        ("facts_text", "bits_per_byte"): (4.4062, "bits", 3),
    }
    samples = read_samples(done.folder)
    assert samples == read_samples(add(DATA / "0.4.13", tmp_path / "other").folder)
    assert samples["facts_generate"][0].scores == {"exact_match,strict": 0.0, "exact_match,flexible": 0.0}
    assert samples["facts_text"][0].answer is None


def test_what_the_file_does_not_say_is_unknown_and_what_it_says_is_there(tmp_path: Path) -> None:
    record = add(DATA / "0.4.13", tmp_path).record
    task, model = record.cells[0].protocol, record.model
    assert (task.seed, task.data, record.cells[0].tokens, record.cells[0].truncated) == (None, None, None, None)
    assert (model.layers, model.state_bytes, model.checkpoint_sha256) == (None, None, "unknown")
    assert (record.protocol.context_prefix, record.protocol.tokenizer_sha256) == ("unknown", "unknown")
    assert (task.max_length, task.shots, task.samples, task.version) == (256, 0, None, 1.0)
    assert (model.parameters, model.dtype, model.device, model.source) == (151712, "float32", "cpu", "tiny-llama")
    assert (record.machine.cpu, record.machine.cores, record.machine.python) == ("AMD EPYC", 2, "3.11.7")
    assert record.machine.memory_gib is None
    assert record.added is not None
    assert record.added.remark == (
        "added from lm-eval 0.4.13: hf pretrained=tiny-llama,dtype=float32; protocol partly unknown"
    )
    old = add(DATA / "0.4.3", tmp_path / "old").record
    assert old.added is not None
    assert old.added.lm_eval is None
    assert old.protocol.lm_eval == "unknown"


def test_samples_of_lm_evals_hf_model_pair_with_ours_by_prompt(tmp_path: Path) -> None:
    """The fixture is of lm-eval's own command with `--model hf` on a tiny random Llama; prompts are drawn anew here."""
    from harness.lm.evaluate import load_task

    done = add(DATA / "needles", tmp_path)
    (cell,) = done.record.cells
    assert (cell.protocol.label, cell.protocol.generator, cell.protocol.seed) == ("niah_single_1@512", "exact", 42)
    assert cell.mean_fill == 1.0
    zoo = str(ROOT / "gdn2" / "zoo" / "gdn2-tiny")
    task = load_task(resolve("niah_single_1@512", samples=3).config, {"tokenizer": zoo, "context_prefix": "tokenizer"})
    task.build_all_requests(limit=None, rank=0, world_size=1)
    asked = [(request.args[0], str(task.doc_to_target(request.doc))) for request in task.instances]
    hashes = ["|".join(hashlib.sha256(text.encode()).hexdigest() for text in pair) for pair in asked]
    ours = [hashlib.sha256(both.encode()).hexdigest()[:16] for both in hashes]
    samples = read_samples(done.folder)["gdn2_niah_single_1_512"]
    assert [sample.prompt for sample in samples] == ours
    assert [sample.sample for sample in samples] == [str(request.doc["sample_hash"])[:16] for request in task.instances]


def test_rows_that_were_added_are_marked_in_tables(theirs: Path, tmp_path: Path) -> None:
    edit(results_file(theirs), lambda raw: rename(raw, "facts_choice", "piqa"))
    next(theirs.glob("samples_facts_choice_*")).unlink()
    done = add(theirs, tmp_path)
    assert done.record.added is not None
    assert done.record.added.without_samples == ("piqa",)
    table = build_table(load_suite("commonsense-offline"), [(done.folder, done.record)], published=False)
    (row,) = table.rows
    (entry,) = (entry for entry in row.entries if entry is not None)
    assert entry.value == 100.0
    assert table.notes == [done.record.added.remark]


def test_tasks_that_only_lm_eval_knows_are_columns_of_the_table_of_named_tasks(tmp_path: Path) -> None:
    runs = [add_results(results_file(DATA / version), tmp_path, name=version) for version in ("0.4.3", "0.4.13")]
    lost: list[str] = []
    records = [done.record for done in runs]
    suite = suite_of(records, lost.append)
    assert [(column.task, column.metric) for column in suite.columns] == [
        ("facts_text", "word_perplexity"),
        ("facts_choice", "acc"),
        ("facts_generate", "exact_match,strict"),
    ]
    table = build_table(suite, [(done.folder, done.record) for done in runs])
    assert [header.higher_is_better for header in table.headers] == [False, True, True]
    assert [[entry and entry.n for entry in row.entries] for row in table.rows] == [[3, 3, 3], [3, 3, 3]]
    marked = {row.name: [table.notes[number - 1] for number in row.shared_notes] for row in table.rows}
    assert marked == {record.name: [record.added.remark] for record in records if record.added is not None}
    page = to_html(make_report(suite, [FoundRun(done.folder, done.record) for done in runs], on_problem=lost.append))
    assert "exact_match,strict" in page
    assert lost == []


def test_a_task_that_is_known_here_keeps_our_column_beside_added_results(theirs: Path, tmp_path: Path) -> None:
    edit(results_file(theirs), lambda raw: rename(raw, "facts_choice", "piqa"))
    next(theirs.glob("samples_facts_choice_*")).unlink()
    record = add(theirs, tmp_path).record
    suite = suite_of([record], pytest.fail)
    kinds = {column.task: type(column) for column in suite.columns}
    assert kinds == {"facts_text": AddedColumn, "piqa": Column, "facts_generate": AddedColumn}
    ours = replace(
        record, added=None, suite="tasks", name="ours", cells=tuple(replace(cell, truncated=0) for cell in record.cells)
    )
    lost: list[str] = []
    table = build_table(suite_of([record, ours], lost.append), [(tmp_path, record), (tmp_path, ours)])
    assert lost == []
    assert any("whose definition is not here any more" in note for note in table.notes)


def test_lengths_of_rulers_tasks_are_cells_and_those_not_measured_are_none(theirs: Path, tmp_path: Path) -> None:
    def needles(raw: Any) -> None:
        raw["results"] = {"niah_single_1": {"4096,none": 0.5, "8192,none": 0.25, "16384,none": -1, "alias": "x"}}

    edit(results_file(theirs), needles)
    date = results_file(theirs).stem.rpartition("_")[2]
    line = json.loads(next(DATA.glob("needles/samples_*")).read_text().splitlines()[0])
    rows = [
        {**line, "doc_id": place, "metrics": ["4096", "8192"], "4096": -1.0, "8192": -1.0, str(length): score}
        for place, (length, score) in enumerate([(4096, 1.0), (4096, 0.0), (8192, 0.25)])
    ]
    samples = theirs / f"samples_niah_single_1_{date}.jsonl"
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = add(theirs, tmp_path)
    assert [(cell.protocol.label, cell.scores["acc"].value, cell.scores["acc"].n) for cell in done.record.cells] == [
        ("niah_single_1@4096", 0.5, 2),
        ("niah_single_1@8192", 0.25, 1),
    ]
    assert {cell.protocol.generator for cell in done.record.cells} == {"lm-eval"}
    assert [len(rows) for rows in read_samples(done.folder).values()] == [2, 1]


def test_documents_that_were_chosen_are_not_taken_for_all(theirs: Path, tmp_path: Path) -> None:
    """lm-eval's `--samples` leaves the limit empty."""

    def chosen(raw: Any) -> None:
        raw["config"]["limit"] = None
        raw["n-samples"]["facts_choice"]["original"] = 7
        raw["n-samples"]["facts_text"]["original"] = 3

    edit(results_file(theirs), chosen)
    asked = {cell.protocol.name: cell.protocol.samples for cell in add(theirs, tmp_path).record.cells}
    assert (asked["facts_choice"], asked["facts_text"]) == (3, None)


def test_answers_that_were_not_scored_are_no_result(theirs: Path, tmp_path: Path) -> None:
    """lm-eval's `--predict_only` calls that the score 999 of the metric `bypass`."""
    unscored = {"alias": "x", "bypass,none": 999, "bypass_stderr,none": "N/A"}
    edit(results_file(theirs), lambda raw: raw["results"].update(facts_choice=unscored))
    assert "facts_choice" not in {cell.protocol.name for cell in add(theirs, tmp_path).record.cells}
    edit(results_file(theirs), lambda raw: raw.update(results={"facts_choice": unscored}))
    with pytest.raises(UserError, match="made with --predict_only, so it has answers and no scores; run lm-eval"):
        add(theirs, tmp_path / "other")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda raw: raw.pop("results"), "not a result file of lm-eval"),
        (
            lambda raw: raw["results"]["facts_text"].update({"acc,none": float("nan")}),
            "results.facts_text.acc,none is nan",
        ),
        (lambda raw: raw.update(results={"a": {"acc": 0.5}}), "no task of it has a score"),
        (lambda raw: raw["n-samples"]["facts_choice"].update(effective=4), "has 3 documents, but .* says 4"),
    ],
)
def test_what_is_no_result_is_named(change: Callable[[Any], Any], named: str, theirs: Path, tmp_path: Path) -> None:
    edit(results_file(theirs), change)
    with pytest.raises(UserError, match=named):
        add(theirs, tmp_path / "runs")
    assert not list(tmp_path.glob("runs/**/record.json"))


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{", "line 4: not JSON"),
        ("[]", "line 4: not a sample of lm-eval"),
        ('{"doc_id": 9}', "line 4: not a sample of lm-eval"),
        (None, "line 4: document 0 is there twice"),
        ("nan", "line 4: acc is NaN"),
    ],
)
def test_a_broken_line_of_samples_is_named(line: str | None, named: str, theirs: Path, tmp_path: Path) -> None:
    file = next(theirs.glob("samples_facts_choice_*"))
    first = file.read_text(encoding="utf-8").split("\n")[0]
    if line == "nan":
        line = json.dumps({**json.loads(first), "doc_id": 3, "acc": float("nan")})
    file.write_text(file.read_text(encoding="utf-8") + (first if line is None else line) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=named):
        add(theirs, tmp_path)


def test_a_file_is_added_once_and_parts_of_runs_never(theirs: Path, tmp_path: Path) -> None:
    first = add(theirs, tmp_path / "runs")
    copied = Path(shutil.copy(results_file(theirs), tmp_path / "results_again.json"))
    with pytest.raises(UserError, match=f"added already, as {first.folder}"):
        add_results(copied, tmp_path / "elsewhere", folders=[tmp_path / "runs"])
    shutil.copy(first.folder / "record.json", theirs)
    with pytest.raises(UserError, match="part of a run that tables read already"):
        add(theirs, tmp_path / "other")
    with pytest.raises(UserError, match=r"a folder; give a result file of lm-eval, such as results_"):
        add_results(theirs, tmp_path / "other")
    with pytest.raises(UserError, match="give the results_"):
        add_results(next(theirs.glob("samples_*")), tmp_path / "other")


def test_without_samples_intervals_are_those_of_the_stated_error(theirs: Path, tmp_path: Path) -> None:
    for file in theirs.glob("samples_*"):
        file.unlink()
    done = add(theirs, tmp_path)
    scores = done.record.cells[0].scores
    assert (scores["acc"].low, scores["acc"].high) == (None, None)  # its error is 0, which no three documents show
    assert scores["acc_norm"].low == pytest.approx(0.0133, abs=1e-3)
    assert scores["acc_norm"].high == 1.0
    with pytest.raises(UserError, match="no samples"):
        read_samples(done.folder)


def test_passwords_are_not_repeated_and_metrics_from_0_to_100_are_numbers(theirs: Path, tmp_path: Path) -> None:
    def change(raw: Any) -> None:
        raw["config"]["model_args"] = "pretrained=org/name,tokenizer=t,api_key=abc,auth_token=abc"
        raw["results"]["facts_choice"] = {"f1,none": 81.5, "f1_stderr,none": "N/A", "alias": "x"}

    edit(results_file(theirs), change)
    record = add(theirs, tmp_path).record
    assert record.added is not None
    assert record.added.model_args == "pretrained=org/name,tokenizer=t"
    assert record.name == "name"
    edit(results_file(theirs), lambda raw: raw["config"].update(model="dummy", model_args=None))
    assert add(theirs, tmp_path).record.name == "dummy"  # not lm-eval's made-up model_name
    assert record.cells[0].scores["f1,none"].unit == "number"
