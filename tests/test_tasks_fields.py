"""lm-eval's fields in a task's file of the user's own: each acts as it does there, is hashed, or is refused."""

from __future__ import annotations

import io
import re
from pathlib import Path

import lm_eval.api.metrics  # noqa: F401 (it fills the registry)
import pytest
from fakes import small_checkpoint
from lm_eval.api.registry import AGGREGATION_REGISTRY
from needle_tasks import write_task
from rich.console import Console
from runs import run

from harness.records.cells import data_hashes, spec_hash
from harness.runs.options import RunOptions
from tasks import own
from tasks.check import check_file
from tasks.errors import TaskError
from tasks.own_fields import AGGREGATIONS
from tasks.registry import resolve

pytestmark = pytest.mark.usefixtures("data_folder", "no_files_known")

FUNCTIONS = """
def one(documents): return documents
def other(documents): return documents.select(range(1))
def score(doc, results): return {"acc": 1.0, "more": 2.0, **({"rare": 1.0} if doc["index"] == 2 else {})}
def wrong(doc, results): return {"acc": doc["no such field"]}
def none(documents): return documents.select([])
def nothing(values): return None
def most(values): return max(values)
def least(values): return min(values)
def last(documents): return documents.select(range(2, len(documents))).filter(lambda each: each["index"] == 2)
def precision(values): return sum(values) / sum(value > 0 for value in values)
def once(doc, results): return {"acc": float(doc["index"] == 2)}
"""
ENTRY = "{{metric: {}, aggregation: mean, higher_is_better: true}}"
SCORED = "process_results: !function own_functions.score\n"


def metrics(*entries: str) -> str:
    return SCORED + f"metric_list: [{', '.join(entries)}]\n"


def hash_of(folder: Path, top: str) -> str | None:
    (folder / "own_functions.py").write_text(FUNCTIONS)
    own.known().clear()
    task = resolve(f"{write_task(folder, top=top)}@700")
    assert not top or "own_functions.py" in data_hashes(task)
    return spec_hash(task)


@pytest.mark.parametrize(
    ("top", "message"),
    [
        ("metadata: {max_samples: 1}\n", r"metadata\.max_samples: would choose documents .* dataset_kwargs\.spec"),
        ("metadata: {length: 1024}\n", r"metadata\.length: would choose documents .* dataset_kwargs\.spec"),
        ("metadata: {tokenizer: x}\n", r"metadata\.tokenizer: would choose documents .* --tokenizer"),
        ("metadata: {pretrained: x}\n", r"metadata\.pretrained: would choose documents"),
        ("metadata: {context_prefix: bos}\n", r"metadata\.context_prefix: would choose documents .*--context-prefix"),
        ("fewshot_delimiter: '7'\n", "fewshot_delimiter: is '7', but prompts are made and counted with"),
        ("fewshot_config: {sampler: nosuch}\n", "fewshot_config: is .*: leave it out"),
        (
            metrics("{metric: acc, aggregation: meen, higher_is_better: true}"),
            r"metric_list\[0\]\.aggregation: lm-eval has no aggregation 'meen'; did you mean 'mean'",
        ),
        (
            metrics("{metric: acc, aggregation: mean, higher_is_better: true, ignore_case: true}"),
            r"metric_list\[0\]\.ignore_case: unknown field",
        ),
        (
            metrics(*[ENTRY.format("acc")] * 2),
            r"metric_list\[1\]\.metric: 'acc' is listed twice",
        ),
    ],
)
def test_a_field_that_would_go_past_the_record_is_refused(
    tmp_path: Path, tokenizer_folder: str, top: str, message: str
) -> None:
    (tmp_path / "own_functions.py").write_text(FUNCTIONS)
    file = write_task(tmp_path, top=top)
    (error,) = check_file(file, tokenizer_folder).errors
    assert re.search(rf"^{file}:\d+:\d+: {message}", error)
    with pytest.raises(TaskError, match=message):
        resolve(f"{file}@700")


@pytest.mark.parametrize("until", ['""', '[""]', '["\\n", ""]'])
def test_an_empty_stop_text_is_refused(tmp_path: Path, tokenizer_folder: str, until: str) -> None:
    file = write_task(tmp_path)
    file.write_text(file.read_text().replace('"until": ["\\n"]', f'"until": {until}'))
    (error,) = check_file(file, tokenizer_folder).errors
    assert (
        "generation_kwargs.until: has an empty text, at which HFLM ends every text behind its first token: write []"
        in error
    )


def test_without_stops_lm_evals_own_one_is_looked_for_in_answers(tmp_path: Path, tokenizer_folder: str) -> None:
    file = write_task(tmp_path, value=["zinc\n\nfoil"], haystack="noise", scoring="string_match_all")
    file.write_text(file.read_text().replace('"until": ["\\n"], ', ""))
    (error,) = check_file(file, tokenizer_folder).errors
    assert "generation_kwargs" in error
    assert r"stops the answer 'zinc\n\nfoil' at '\n\n'" in error


def test_what_changes_documents_or_scores_changes_the_definitions_hash(tmp_path: Path) -> None:
    way = "{{metric: acc, aggregation: {}, higher_is_better: true}}"
    tops = [
        "process_docs: !function own_functions.one\n",
        "process_docs: !function own_functions.other\n",
        metrics(way.format("mean")),
        metrics(way.format("median")),
        metrics(way.format("!function own_functions.most")),
        metrics(way.format("!function own_functions.least")),
    ]
    hashes = [hash_of(tmp_path, top) for top in ("", *tops)]
    assert len(set(hashes)) == len(hashes)
    assert hashes[3] == hash_of(tmp_path, SCORED)  # a mean, as hashes have always had it


def test_the_aggregations_are_lm_evals() -> None:
    assert {*AGGREGATIONS, "bypass"} == set(AGGREGATION_REGISTRY)


@pytest.mark.parametrize(
    ("top", "message"),
    [
        ("process_results: !function own_functions.wrong\n", "process_results: lm-eval cannot run the task: KeyError"),
        ("process_docs: !function own_functions.none\n", "process_docs: lm-eval cannot run the task"),
        (
            metrics(ENTRY.format("right")),
            r"metric_list\[0\]: no document is scored by 'right'; process_results gives acc, more;",
        ),
        (
            metrics("{metric: acc, aggregation: !function own_functions.nothing, higher_is_better: true}"),
            r"metric_list\[0\]: lm-eval cannot run the task: TypeError",
        ),
        (metrics(*(ENTRY.format(metric) for metric in ("acc", "rare", "never"))), None),
    ],
)
def test_functions_that_cannot_score_are_refused_before_a_run_asks_anything(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
    top: str,
    message: str | None,
) -> None:
    (tmp_path / "own_functions.py").write_text(FUNCTIONS)
    model = small_checkpoint(tmp_path_factory.mktemp("model"))
    file = write_task(tmp_path, top=top, haystack="noise", lengths=[200], samples=3, generated_tokens=8)
    said = Console(file=io.StringIO())
    options = RunOptions(checkpoint=str(model), tasks=(str(file),), output=tmp_path / "out", batch_size=2)
    if message is None:
        record, _ = run(options, said)
        assert {metric: score.n for metric, score in record.cells[0].scores.items()} == {"acc": 3, "rare": 1}
        assert "no document was scored by never; the record leaves it out" in caplog.text
        assert "scored by more too; list it in metric_list" in caplog.text
        return
    with pytest.raises(TaskError, match=f"^{file}: {message}.*tasks check"):
        run(options, said)
    assert not list((tmp_path / "out").rglob("*.jsonl"))


@pytest.mark.parametrize(
    "top",
    [
        SCORED + "process_docs: !function own_functions.last\n",
        "process_results: !function own_functions.once\n"
        "metric_list: [{metric: acc, aggregation: !function own_functions.precision, higher_is_better: true}]\n",
    ],
)
def test_functions_that_need_more_than_the_first_two_documents_are_run(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, top: str
) -> None:
    (tmp_path / "own_functions.py").write_text(FUNCTIONS)
    model = small_checkpoint(tmp_path_factory.mktemp("model"))
    file = write_task(tmp_path, top=top, haystack="noise", lengths=[200], samples=3, generated_tokens=8)
    options = RunOptions(checkpoint=str(model), tasks=(str(file),), output=tmp_path / "out", batch_size=2)
    record, _ = run(options, Console(file=io.StringIO()))
    assert record.cells[0].scores["acc"].value == 1.0
