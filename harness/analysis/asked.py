"""What several models were asked, sample by sample, with what each answered: what a page lets people browse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.analysis.entrants import Entrant, ShownCell
from harness.records.samples import Sample
from tasks.verdicts import TITLES

INCORRECT, UNSCORED = "incorrect", "unscored"
KINDS: dict[str, str] = {
    **{str(kind): title for kind, title in TITLES.items()},
    INCORRECT: "wrong",
    UNSCORED: "not scored",
}
"""What an answer is, with its title: a verdict, or by its score alone where answers are not judged."""


@dataclass(frozen=True)
class Answered:
    """What one model made of a sample.

    Attributes:
        text: that it generated; None where the task asks for none.
        score: from 0 to 1; None where it could not be scored.
        kind: one of `KINDS`.
        excerpt: of the prompt: before the needle, the needle, behind it; None where that is not known.
    """

    text: str | None
    score: float | None
    kind: str
    excerpt: tuple[str, ...] | None


@dataclass
class Question:
    """One sample that at least one model was asked.

    Attributes:
        shown: a cell that it belongs to, for its task and length.
        sample: as the first model was asked it.
        is_alike: whether all were asked the same text; else the same is asked in contexts that the models' own
            tokenizers have filled.
        answers: by the place of the model.
    """

    shown: ShownCell
    sample: Sample
    is_alike: bool = True
    answers: dict[int, Answered] = field(default_factory=dict)


@dataclass(frozen=True)
class AskedSamples:
    """The samples of a page.

    Attributes:
        questions: task by task, in the order of the samples.
        answers: how many there are in `questions`.
        of: how many there would be without a bound.
    """

    questions: tuple[Question, ...]
    answers: int
    of: int


def questions_of(entrants: Sequence[Entrant], most: int) -> AskedSamples:
    """Put the samples of models together: those of equal content are one question, and those of equal wording.

    Args:
        entrants: the models.
        most: answers that are taken, as many of every cell, the first of each.
    """
    cells = [(place, cell) for place, entrant in enumerate(entrants) for cell in entrant.shares.values()]
    bound = _each(sorted(len(cell.samples) for _, cell in cells), most)
    found: list[Question] = []
    by_content: dict[tuple[str, str], Question] = {}
    by_wording: dict[tuple[str, int, str | None, tuple[str, ...]], Question] = {}
    for place, cell in cells:
        for sample in cell.samples[:bound]:
            content = (cell.task, sample.sample)
            wording = (cell.task, sample.index, sample.query, sample.references)
            question = by_content.get(content) or (by_wording.get(wording) if sample.query else None)
            if question is None or place in question.answers:
                question = Question(cell, sample)
                found.append(question)
            by_content.setdefault(content, question)
            by_wording.setdefault(wording, question)
            question.is_alike &= sample.sample == question.sample.sample
            question.answers[place] = answered(cell, sample)
    first: dict[str, int] = {}
    for _, cell in cells:
        first[cell.column.task] = min(cell.place, first.get(cell.column.task, cell.place))

    def order(question: Question) -> tuple[int, int, int]:
        column = question.shown.column
        return first[column.task], column.length or 0, question.sample.index

    ordered = sorted(found, key=order)
    number = sum(len(question.answers) for question in ordered)
    return AskedSamples(tuple(ordered), number, sum(len(cell.samples) for _, cell in cells))


def answered(cell: ShownCell, sample: Sample) -> Answered:
    """What a sample's answer was, by the metric of its cell."""
    score = score_of(cell, sample)
    by_score = UNSCORED if score is None else "right" if score >= 1 else "partly" if score > 0 else INCORRECT
    return Answered(sample.answer, score, sample.verdict or by_score, sample.excerpt)


def score_of(cell: ShownCell, sample: Sample) -> float | None:
    """The score of a sample by the metric of its cell; None where that is no finite number."""
    return sample.finite(cell.column.metric)


def _each(lengths: Sequence[int], most: int) -> int:
    """The most of each list, so that all together are at most `most`."""
    left, lists = most, len(lengths)
    for place, length in enumerate(lengths):
        share = left // (lists - place)
        if length > share:
            return share
        left -= length
    return max(lengths, default=0)
