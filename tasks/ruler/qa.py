"""Questions among documents for `exact`: SQuAD (qa_1), HotpotQA (qa_2). The last distractor is cut to fill."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from tasks.ruler import documents
from tasks.ruler.documents import Question, Questions
from tasks.ruler.problem import HaystackProblem, first_that_fits
from tasks.ruler.spec import RulerSpec
from tasks.ruler.templates import DOCUMENT, QUESTION, QUESTION_SOURCES
from tasks.text.haystack import Stretch
from tasks.text.pieces import PieceCounter

STRIDE = 2503
"""Places between a question and the one that is asked instead where the length does not hold the first: more than a
cell's samples, so that few questions are asked twice."""
TRIES = 32


class QuestionProblems:
    """The problems of one question task: sample i asks the same question at every length that holds its documents.

    Where a length does not, of all that came with the question only those stay that its answer follows from, the others
    becoming distractors; where they do not fit either, another question is asked.
    """

    def __init__(self, spec: RulerSpec, counter: PieceCounter, room: int) -> None:
        self._data = documents.load_questions(QUESTION_SOURCES[spec.task])
        self._order = _order(spec.task, spec.seed, len(self._data.questions))
        self._counter, self._room = counter, room

    def problem(self, index: int, rng: random.Random) -> HaystackProblem:
        """A question, the order of its distractors, and the order in which all documents are shown."""
        distractors, shown = rng.getrandbits(64), rng.getrandbits(64)
        places = [self._order[(index + STRIDE * more) % len(self._order)] for more in range(TRIES)]
        forms = (
            self._draw(number, question, distractors, shown)
            for number in dict.fromkeys(places)
            for question in _forms(self._data.questions[number])
        )
        return first_that_fits(forms, self._counter, self._room)

    def _draw(self, number: int, question: Question, distractors: int, shown: int) -> HaystackProblem:
        gold = [self._data.documents[each] for each in question.gold]

        def prompt(stretch: Stretch, lines: list[str]) -> str:  # noqa: ARG001
            texts = gold + [line.split("\n", 1)[-1] for line in lines]
            random.Random(shown).shuffle(texts)
            listed = (DOCUMENT.format(number=place, text=text) for place, text in enumerate(texts, start=1))
            return QUESTION.prompt.format(context="\n\n".join(listed), query=question.text) + QUESTION.answer_prefix

        return HaystackProblem(
            stretch=lambda: Stretch(_Distractors(self._data, question, random.Random(distractors)), 0),
            prompt=prompt,
            prefix=QUESTION.answer_prefix,
            outputs=question.answers,
            evidence=gold,
            two=True,
            facts={"query": question.text, "question": number, "cluster": question.cluster(self._data.documents)},
        )


def _forms(question: Question) -> Iterator[Question]:
    """A question with all its documents, and with those that it needs."""
    yield question
    if question.needed != question.gold:
        others = tuple(number for number in question.gold if number not in question.needed)
        yield replace(question, gold=question.needed, more=(*others, *question.more))


class _Distractors:
    """Documents of the same article in random order, then others, none twice before all have been; each with a head."""

    joiner = "\n\n"

    def __init__(self, data: Questions, question: Question, rng: random.Random) -> None:
        self._texts = data.documents
        self._rng = rng
        self._gold = set(question.gold)
        self._order = rng.sample(question.more, len(question.more))
        self._seen = {*question.gold, *question.more}

    def pieces(self, unit: int) -> list[str]:
        """The words of a document with the separator before each; its head counts those before it."""
        while len(self._order) <= unit:
            if len(self._seen) == len(self._texts):
                self._seen = set(self._gold)
            number = self._rng.randrange(len(self._texts))
            if number not in self._seen:
                self._seen.add(number)
                self._order.append(number)
        text = DOCUMENT.format(number=len(self._gold) + unit + 1, text=self._texts[self._order[unit]])
        # The first space of a head is part of the first piece: "Document 7:\nFirst" stays whole.
        head, body = text.split("\n", 1)
        first, *rest = body.split(" ")
        return [f"{self.joiner}{head}\n{first}", *(" " + word for word in rest)]


@lru_cache(maxsize=8)
def _order(task: str, seed: int, count: int) -> list[int]:
    return random.Random(hashlib.sha256(f"{task}|{seed}".encode()).digest()).sample(range(count), count)
