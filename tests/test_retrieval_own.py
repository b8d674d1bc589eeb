"""Retrieval tasks of our own: no question answered without reading, a cue that no cut takes, words that count."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from records import cell, place, record
from rich.console import Console
from task_data import train_tokenizer

from harness.records.cells import make_cell, task_protocol
from harness.records.leaderboard import build_table
from harness.records.record import Cell
from harness.show.summary import print_summary
from tasks.registry import load_suite, resolve
from tasks.retrieval.prompts import RULES, Parts
from tasks.retrieval.unread import count_given_away, is_given_away
from tasks.starter import write_starter

LONG = "The streets of the town are long and straight. " * 40
QUESTIONS = [  # question, answers, whether it is asked
    ("What is the town?", ["Modena"], True),
    ("Is Modena a town or a city?", ["a city", "city"], False),
    ("Which letter?", ["the letter P", "P"], False),
    ("Which sign?", ["."], False),
    ("How many streets?", ["12"], True),
]
OWN = ("squad_retrieval", "jrt_squad_dev@300", "jrt_squad_dev_twice@300", "jrt_hotpotqa@300", "jrt_hotpotqa_twice@300")


@pytest.fixture(scope="module", autouse=True)
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("staged")
    asked = [
        {"question": question, "id": f"q{number}", "is_impossible": False}
        | {"answers": [{"text": answer, "answer_start": 0} for answer in answers]}
        for number, (question, answers, _) in enumerate(QUESTIONS)
    ]
    text = f"Modern Modena, a city of the letter P, has 12 streets. {LONG}"
    article = {"title": "Towns", "paragraphs": [{"context": text, "qas": asked}]}
    (folder / "squad.json").write_text(json.dumps({"data": [article]}))
    hotpot = [
        {"_id": f"h{number}", "question": question, "answer": answers[-1]}
        | {"context": [["Before", [LONG]], ["Town", [text]]]}
        for number, (question, answers, _) in enumerate(QUESTIONS)
    ]
    (folder / "hotpotqa.json").write_text(json.dumps(hotpot))
    train_tokenizer("metaspace").save_pretrained(folder / "tokenizer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDN2_DATA", str(folder))
        yield str(folder / "tokenizer")


def docs(name: str, tokenizer: str) -> list[dict[str, Any]]:
    config = resolve(name).config
    return list(config["custom_dataset"](**config["dataset_kwargs"], tokenizer=tokenizer)["test"])


@pytest.mark.parametrize("name", OWN)
def test_what_is_answered_without_reading_is_left_out_and_counted(name: str, tokenizer_folder: str) -> None:
    found = docs(name, tokenizer_folder)
    assert {doc["query"] for doc in found} == {question for question, _, is_asked in QUESTIONS if is_asked}
    assert {(doc["source_rows"], doc["dropped_rows"]) for doc in found} == {(5, 3)}
    assert count_given_away(resolve(name).config, found) == 0
    assert resolve(name).config["metadata"]["version"] == 2.0


@pytest.mark.parametrize("name", OWN)
def test_the_question_and_its_cue_end_every_prompt_whatever_is_cut(name: str, tokenizer_folder: str) -> None:
    for doc in docs(name, tokenizer_folder):
        assert doc["input"].endswith(f"\nQuestion: {doc['query']}\nAnswer:")
        assert doc["outputs"][0] in doc["input"]
        if "is_cut" in doc:
            assert doc["is_cut"]
            assert doc["answer_in_prompt"]


def test_read_twice_asks_before_and_behind_both_copies() -> None:
    parts = Parts(text=" A text.\n", question="Who?")
    assert RULES["own"][0](parts) == "A text.\nQuestion: Who?\nAnswer:"
    assert RULES["own"][1](parts) == "Question: Who?\nA text.\nA text.\nQuestion: Who?\nAnswer:"


@pytest.mark.parametrize(
    ("question", "references", "given"),
    [
        ("Who?", ["Ada"], False),
        ("Who but ADA?", ["Ada"], True),
        ("Who is Adam?", ["Ada"], True),  # to the letter, as the papers score
        ("Who?", ["Ada", "A"], True),
        ("Who?", [" A "], True),
        ("Who?", [""], True),
        ("", ["Ada"], False),
    ],
)
def test_given_away_is_an_answer_in_the_question_or_of_one_character(
    question: str, references: list[str], given: bool
) -> None:
    assert is_given_away(question, references) is given


@pytest.mark.parametrize(
    ("name", "rows", "given"),
    [
        ("jrt_drop@512", [{"query": "How many?", "outputs": ["7"]}, {"query": "Who?", "outputs": ["Ada"]}], 1),
        ("qa_1@512", [{"query": "Is it Ada?", "question": 3, "outputs": ["Ada"]}], 1),
        ("swde", [{"key": "year", "value": "1999"}, {"key": "rank", "value": " 3 "}], 1),
        ("squad_completion", [{"question": "Is it Ada?", "value": "Ada"}], 1),
        ("niah_single_1@512", [{"query": "key", "outputs": ["7"]}], None),
    ],
)
def test_where_the_protocol_is_anothers_they_are_counted(
    name: str, rows: Sequence[Mapping[str, Any]], given: int | None
) -> None:
    assert count_given_away(resolve(name).config, rows) == given


def cell_of(name: str, metric: str, answers: Sequence[str], doc: Mapping[str, Any]) -> Cell:
    task = resolve(name)
    rows = [{"doc": doc, "filtered_resps": [answer], metric: 0.0} for answer in answers]
    result = {"results": {task.lm_eval_name: {f"{metric},none": 0.0}}, "samples": {task.lm_eval_name: rows}}
    costs: dict[str, Any] = {"truncated": 0, "tokens": 8, "shared_tokens": 0, "seconds": 2.0, "peak_memory_mib": None}
    return make_cell(task, task_protocol(task, 512, {}), result, context_prefix="none", **costs)


def test_empty_answers_are_counted_in_every_task_that_generates() -> None:
    answers = ["", " \n", "\nAda", "7"]
    needle = cell_of("niah_single_1@512", "acc", answers, {"outputs": ["7"]})
    assert needle.documents == {"empty_answers": 2}
    doc = {"query": "Who is Ada?", "outputs": ["Ada"], "source_rows": 9, "dropped_rows": 2}
    squad = cell_of("squad_retrieval", "contains", answers, doc)
    assert squad.documents == {"rows": 9, "dropped": 2, "empty_answers": 2, "given_away": 4}
    assert cell_of("boolq", "acc", answers, {}).documents == {}


def test_empty_answers_are_shown_where_there_are_any(tmp_path: Path) -> None:
    some = cell(documents={"empty_answers": 17, "given_away": 3})
    none = cell(length=2048, documents={"empty_answers": 0, "given_away": 0})
    console = Console(file=io.StringIO(), width=120)
    print_summary(record(cells=(some, none)), tmp_path, console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "empty answers: niah_single_1@1024 17\n" in printed
    assert "or of one character): niah_single_1@1024 3\n" in printed
    table = build_table(load_suite("ruler_table3"), [place(record(cells=(some, none)))], published=False)
    assert table.notes == ["17 answers were empty"]


def test_a_result_of_an_earlier_version_is_shown_and_says_so(tmp_path: Path) -> None:
    suite = tmp_path / "one.yaml"
    column = "{task: squad_retrieval, metric: contains, samples: 500, label: c, group: g}"
    suite.write_text(f"suite: one\ncolumns: [{column}]\n")
    scores = {"contains": cell().scores["acc"]}
    old = cell("squad_retrieval", None, scores=scores, version=1.0)
    table = build_table(load_suite(suite), [place(record(cells=(old,)))], published=False)
    assert table.rows[0].entries[0] is not None
    assert "task version 1 instead of 2" in table.notes


def test_no_task_that_is_scored_by_its_first_line_with_text_stops_at_an_empty_one(tmp_path: Path) -> None:
    starter = resolve(str(write_starter("vault_codes", tmp_path)), 1024)
    assert starter.config["dataset_kwargs"]["spec"]["scoring"] == "first_line"
    for task in (starter, *(resolve(name) for name in OWN)):
        assert task.config["generation_kwargs"]["until"] == []
