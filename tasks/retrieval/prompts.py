"""Prompts of the recall tasks: one rule a data set of Just Read Twice, and one of our own, read once or twice.

A prompt ends without a space: the model has to produce it. Source of all but `own`:
HazyResearch/prefix-linear-attention, the tasks based_swde, based_fda, based_squad, based_nq, based_drop, based_triviaqa
and their `_twice` variants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tasks.errors import TaskError

SUMMARY_MARK = "Summary of information above..."
TRIVIA_MARKS = ("[PAR]", "[DOC]", "[TLE]")
OWN = "{context}\nQuestion: {question}\nAnswer:"
"""A question that a base model answers. Behind a question without a cue it writes a line end, or nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What a prompt is made of; `text` is the window, `context` the uncut document."""

    text: str
    key: str = ""
    question: str = ""
    original_question: str = ""
    context: str = ""

    @property
    def asked(self) -> str:
        """What is asked for, in words: a question or a key."""
        return self.question or self.key

    @property
    def document(self) -> str:
        """What several questions may be about: the uncut text without what is asked at its end."""
        text = (self.context.partition("\nQuestion:")[0] or self.text).strip()
        for tail in (self.question, f"{self.key}:" if self.key else ""):
            text = _without_tail(text, tail).strip() if tail else text
        return text


def swde(parts: Parts) -> str:
    """SWDE: the page without the attribute at its end, then the attribute."""
    body = _without_tail(parts.text.split(SUMMARY_MARK)[0], f"{parts.key}:")
    return f"{body.strip(chr(10)).strip().strip(chr(10)).strip().strip('.')}. {_title(parts.key)}:"


def swde_twice(parts: Parts) -> str:
    """SWDE read twice: the attribute first, then the page twice, then the attribute."""
    body = _without_tail(parts.text.split(SUMMARY_MARK)[0], f"{parts.key}:")
    return _information(parts.key, body.strip("\n").strip(".").strip().strip("\n").strip())


def fda(parts: Parts) -> str:
    """FDA: the report without the attribute at its end, then the attribute."""
    body = _without_tail(parts.text, f"{parts.key}:")
    return f"{body.strip(chr(10)).strip('.')}. {_title(parts.key)}:"


def fda_twice(parts: Parts) -> str:
    """FDA read twice: the attribute first, then the report twice, then the attribute."""
    return _information(parts.key, _without_tail(parts.text, f"{parts.key}:").strip("\n").strip("."))


def squad(parts: Parts) -> str:
    """SQuAD: the paragraph up to where the answer continues it."""
    return parts.text.strip()


def squad_twice(parts: Parts) -> str:
    """SQuAD read twice: the question, the uncut paragraph, and the paragraph up to the answer."""
    first = parts.context.split("Question:")[0]
    return f"{parts.question} {first}\n{parts.text.strip()}"


def drop(parts: Parts) -> str:
    """DROP: the passage without the question at its end, then the question."""
    body = _without_tail(parts.text.strip(), parts.question)
    return f"{body.strip().strip('.')}. {parts.question.strip()}"


def nq(parts: Parts) -> str:
    """Natural Questions: the page without the question at its end, then the question."""
    body = parts.text.strip().removesuffix(parts.question)
    return f"{body.strip().strip('.')}. {parts.question.strip()}"


def triviaqa(parts: Parts) -> str:
    """TriviaQA: the documents without their marks and without the question at their end, then the question."""
    body = _without_tail(_without_marks(parts.text).strip(), parts.question)
    return f"{body.strip().strip('.')}. {parts.question.strip()}"


def drop_twice(parts: Parts) -> str:
    """DROP read twice: the question first, then the passage twice, then the question."""
    body = _without_tail(parts.text.strip(), parts.question)
    return _asked_twice(parts.original_question.strip(":"), body, parts.question)


def triviaqa_twice(parts: Parts) -> str:
    """TriviaQA read twice: the question first, then the documents twice, then the question."""
    body = _without_tail(_without_marks(parts.text).strip(), parts.question)
    return _asked_twice(parts.original_question, body, parts.question)


def own(parts: Parts) -> str:
    """Ours: the window, then the question and the cue for its answer, which no cut takes away."""
    return OWN.format(context=parts.text.strip(), question=parts.question)


def own_twice(parts: Parts) -> str:
    """Ours read twice: the question first, then the window twice, then the question and the cue."""
    body = parts.text.strip()
    return f"Question: {parts.question}\n{body}\n{own(parts)}"


RULES: dict[str, tuple[Callable[[Parts], str], Callable[[Parts], str]]] = {
    "swde": (swde, swde_twice),
    "fda": (fda, fda_twice),
    "squad": (squad, squad_twice),
    "nq": (nq, drop_twice),
    "drop": (drop, drop_twice),
    "triviaqa": (triviaqa, triviaqa_twice),
    "own": (own, own_twice),
}
"""Per rule the prompt read once and the prompt read twice. NQ read twice takes the question away as DROP does."""


def _without_tail(text: str, tail: str) -> str:
    """Take `tail` off the end as often as it is there, case ignored."""
    if not tail:
        raise TaskError("a document has an empty question: the data set is damaged, stage it again")
    while text.lower().endswith(tail.lower()):
        text = text[: len(text) - len(tail)]
    return text


def _without_marks(text: str) -> str:
    for mark in TRIVIA_MARKS:
        text = text.replace(mark, "")
    return text


def _title(key: str) -> str:
    return key[:1].upper() + key[1:]


def _information(key: str, body: str) -> str:
    return f"Information about {_title(key)}. {body}.\n{body}. {_title(key)}:"


def _asked_twice(original: str, body: str, question: str) -> str:
    body = body.strip().strip(".").strip()
    return f"{original} {body}.\n{body}. {question.strip()}"
