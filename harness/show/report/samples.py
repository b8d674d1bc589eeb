"""The samples of a page as data for its script: what many share is written once, and no text is longer than a bound."""

from __future__ import annotations

from typing import Any

from harness.analysis.asked import KINDS, Question
from harness.analysis.report import Report

MOST_LETTERS = 2000
"""Of each text: a page is read by people, and no answer or excerpt needs more."""
MOST_REFERENCES = 20


def browser_data(report: Report) -> dict[str, Any]:
    """The samples of a report.

    Returns:
        `models` and `verdicts` by their places; `tasks` as `[name, length]`; and for each question a list: task,
        index, hash, depth, query, references, excerpts (each as `[before, needle, behind]`), the prompt's end, the
        answers, each as `[model, verdict, score, text, excerpt]`, and 0 where the contexts differ.
    """
    tasks: dict[tuple[str, int | None], int] = {}
    questions = []
    for question in report.asked.questions:
        said = question.shown.candidate.cell.protocol
        task = tasks.setdefault((said.name, said.length), len(tasks))
        questions.append(_question(task, question))
    return {
        "models": [entrant.title for entrant in report.entrants],
        "verdicts": list(KINDS.values()),
        "tasks": [list(task) for task in tasks],
        "questions": questions,
    }


def clip(text: str) -> str:
    """A text of at most `MOST_LETTERS`, and how much was left out of it."""
    left = len(text) - MOST_LETTERS
    return text if left <= 0 else f"{text[:MOST_LETTERS]} … [{left:,} more characters]"


def _question(task: int, question: Question) -> list[Any]:
    sample = question.sample
    references = [clip(text) for text in sample.references[:MOST_REFERENCES]]
    found = sorted(question.answers.items())
    excerpts = list(dict.fromkeys(answer.excerpt for _, answer in found if answer.excerpt is not None))
    places = {excerpt: place for place, excerpt in enumerate(excerpts)}
    answers = [
        [
            model,
            list(KINDS).index(answer.kind),
            _rounded(answer.score),
            None if answer.text is None else clip(answer.text),
            None if answer.excerpt is None else places[answer.excerpt],
        ]
        for model, answer in found
    ]
    query = None if sample.query is None else clip(sample.query)
    shown = [[clip(text) for text in excerpt] for excerpt in excerpts]
    tail = None if sample.tail is None else clip(sample.tail)
    return [
        task,
        sample.index,
        sample.sample,
        _rounded(sample.depth),
        query,
        references,
        shown,
        tail,
        answers,
        int(question.is_alike),
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)
