"""Why an answer is right or wrong: exactly one verdict an answer, and the needle in its place. Pure functions.

The score decides first: 1 is `right`, between 0 and 1 is `partly`. Of an answer that scores 0 the first value that the
context holds decides, as a word of its own and case ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tasks.answers import Wanted, bordered
from tasks.scoring import first_line

Verdict = Literal["right", "partly", "wrong", "stale", "invented", "form", "echo", "none", "empty", "cut"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
TITLES: Mapping[Verdict, str] = {
    "right": "right",
    "partly": "partly right",
    "wrong": "wrong needle",
    "stale": "stale value",
    "invented": "invented value",
    "form": "right, other form",
    "echo": "echo",
    "none": "no value",
    "empty": "empty",
    "cut": "cut prompt",
}
MEANINGS: Mapping[Verdict, str] = {
    "right": "the score is 1",
    "partly": "the score lies between 0 and 1: some of several answers, or some of their words",
    "wrong": "another value of the context, or a denial where there is a value",
    "stale": "a value that the context overwrites or withdraws",
    "invented": "a value of the right kind that the context does not hold",
    "form": "the right value in a form or a place that the score does not take",
    "echo": "no value, but words of the prompt",
    "none": "text without a value",
    "empty": "nothing but white space",
    "cut": "not right, and the prompt that the model read had lost its beginning or the answer",
}
RUN = 8
"""So many words in a row that the prompt has, too, are an echo; of a shorter answer all of them, two at least."""
STEP = 4
"""Runs begin at every fourth word of an answer: a million tokens are not searched through for each word."""
LEAST_SQUEEZED = 4
AROUND = 120
"""Characters before and behind a needle that an excerpt has."""
MOST_STATEMENT = 160
TAIL = 300


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an answer is.

    Attributes:
        verdict: one of `VERDICTS`.
        answered: whether it gives a value of the right kind, right or wrong.
    """

    verdict: Verdict
    answered: bool


def judge(wanted: Wanted, answer: str, score: float, *, prompt: str, is_cut: bool) -> Judgement:
    """Say what an answer is.

    Args:
        wanted: what its document wants.
        answer: what was generated, whole.
        score: what the task's scoring function gave, from 0 to 1.
        prompt: what the document holds for the model to read.
        is_cut: whether the model did not read all of it, or it lacks the answer.
    """
    values = wanted.values(answer)
    answered = bool(values) or (score > 0 and not wanted.may_be_silent)
    if score >= 1:
        return Judgement("right", answered)
    if score > 0:
        return Judgement("partly", answered)
    if is_cut:
        return Judgement("cut", answered)
    if not answer.strip():
        return Judgement("empty", answered)
    return Judgement(_wrong(wanted, answer, values, prompt), answered)


def is_cut(doc: Mapping[str, Any], room: int | None) -> bool:
    """Whether a document's prompt lost its beginning, or its window the answer.

    Args:
        doc: the document.
        room: tokens that a prompt may have; None where nothing was cut.
    """
    tokens = doc.get("prompt_tokens")
    return doc.get("answer_in_prompt") is False or (room is not None and isinstance(tokens, int) and tokens > room)


def excerpt(wanted: Wanted, prompt: str, answer: str) -> tuple[str, str, str] | None:
    """The needle in its place: text before it, the statement that holds it, text behind it.

    Of several needles the first whose value the answer does not have, or the first of all.

    Args:
        wanted: what the document wants.
        prompt: what it holds for the model to read.
        answer: what was generated.

    Returns:
        None where the prompt holds no such value.
    """
    missing = [value for value in wanted.needles if not bordered(value, wanted.kind.is_loose).search(answer)]
    for value in (*missing, *wanted.needles):
        start = _place(value, prompt)
        if start is not None:
            return _cut_out(prompt, start, start + len(value))
    return None


def _wrong(wanted: Wanted, answer: str, values: Sequence[str], prompt: str) -> Verdict:
    """The verdict of an answer that scores 0 and is not empty.

    Args:
        wanted: what its document wants.
        answer: the whole.
        values: those in the part of it that is scored.
        prompt: what the document holds for the model to read.
    """
    roles: dict[str, Verdict] = {
        **{value.lower(): "wrong" for value in wanted.others},
        **{value.lower(): "stale" for value in wanted.stale},
        **{value.lower(): "form" for value in wanted.right},
    }
    read = prompt.lower() if values else ""
    for value in values:
        if (role := roles.get(value.lower())) is not None:
            return role
        if (wanted.denial and wanted.denial.fullmatch(value)) or _find(value.lower(), read) >= 0:
            return "wrong"
    if _has_other_form(wanted, answer):
        return "form"
    if values:
        return "invented"
    line = first_line(answer)
    repeats = bool(line) and bordered(line).search(wanted.query) is not None
    return "echo" if repeats or _is_echo(answer, prompt) or _is_echo(line, prompt) else "none"


def _has_other_form(wanted: Wanted, answer: str) -> bool:
    """Whether the answer has a right value with other marks and spaces inside, such as 1,234,567, or elsewhere."""
    plain = _squeezed(answer)
    for right in wanted.right:
        short = _squeezed(right)
        if (len(short) >= LEAST_SQUEEZED and short in plain) or (right and bordered(right).search(answer)):
            return True
    return False


def _squeezed(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.lower())


def _is_echo(answer: str, prompt: str) -> bool:
    words = answer.lower().split()
    if len(words) < 2:
        return False
    read = f" {' '.join(prompt.lower().split())} "
    runs = (words[start : start + RUN] for start in range(0, max(1, len(words) - RUN + 1), STEP))
    return any(" ".join(run) in read for run in runs)


def _place(value: str, prompt: str) -> int | None:
    """Where a text first holds a value as a word of its own, case ignored; None if nowhere."""
    start = _find(value, prompt)
    if start >= 0:  # a regular expression that ignores case takes long over a million tokens
        return start
    match = bordered(value).search(prompt) if value else None
    return match.start() if match else None


def _find(value: str, text: str) -> int:
    """Where a text first holds a value as a word of its own, to the letter; -1 if nowhere."""
    start = text.find(value) if value else -1
    while start >= 0 and _in_a_word(text, start, start + len(value)):
        start = text.find(value, start + 1)
    return start


def _in_a_word(text: str, start: int, end: int) -> bool:
    """Whether a letter or a digit continues what lies between two places."""
    return (
        re.fullmatch(r"\w", text[start - 1 : start]) is not None or re.fullmatch(r"\w", text[end : end + 1]) is not None
    )


def _cut_out(prompt: str, start: int, end: int) -> tuple[str, str, str]:
    """A value with the sentence around it, if that is short, and what surrounds it."""
    before, behind = prompt[max(0, start - MOST_STATEMENT) : start], prompt[end : end + MOST_STATEMENT]
    opening = max(before.rfind("\n") + 1, *(match.end() for match in re.finditer(r"[.?!]\s+", before)), 0)
    closing = re.search(r"[.?!](?=\s|$)|(?=\n)|$", behind)
    first, last = start - len(before) + opening, end + (closing.end() if closing else 0)
    if last - first > MOST_STATEMENT or (opening == 0 and len(before) == MOST_STATEMENT):
        first, last = start, end
    return prompt[max(0, first - AROUND) : first], prompt[first:last], prompt[last : last + AROUND]
