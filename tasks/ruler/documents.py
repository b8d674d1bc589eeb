"""The questions of qa_1 (SQuAD) and qa_2 (HotpotQA), with the documents that answer them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tasks import data
from tasks.subset import text_hash


@dataclass(frozen=True, slots=True)
class Question:
    """A question; `gold` and `more` are indices of documents."""

    text: str
    answers: tuple[str, ...]
    gold: tuple[int, ...]
    """Documents that hold the answer, or, of HotpotQA, all that came with the question."""
    more: tuple[int, ...] = ()
    """The other documents of the same article."""
    needed: tuple[int, ...] = ()
    """Of `gold`, what the answer follows from: of HotpotQA the documents of its supporting facts."""

    def cluster(self, documents: Sequence[str]) -> str:
        """Equal for questions whose answers are in the same documents."""
        return text_hash(*(documents[number] for number in self.needed or self.gold))


@dataclass(frozen=True, slots=True)
class Questions:
    """A data set: distinct documents, sorted, and the answerable questions in file order."""

    documents: tuple[str, ...]
    questions: tuple[Question, ...]


def load_questions(source: str) -> Questions:
    """`squad` or `hotpotqa`, as RULER reads them. Raises DataNotStaged for a file missing or laid out otherwise."""
    file = data.path(f"{source}.json")
    try:
        return _squad(file) if source == "squad" else _hotpotqa(file)
    except (KeyError, TypeError, ValueError) as error:
        raise data.DataNotStaged(
            f"{file}: not the layout of {source} ({type(error).__name__}: {error}); run `python run_eval.py stage`"
        ) from error


@lru_cache(maxsize=2)
def _squad(file: Path) -> Questions:
    articles: list[Mapping[str, Any]] = data.read_json(file)["data"]
    documents = sorted({paragraph["context"] for article in articles for paragraph in article["paragraphs"]})
    index = {text: number for number, text in enumerate(documents)}
    questions = []
    for article in articles:
        numbers = [index[paragraph["context"]] for paragraph in article["paragraphs"]]
        for paragraph in article["paragraphs"]:
            gold = index[paragraph["context"]]
            more = tuple(number for number in numbers if number != gold)
            for asked in paragraph["qas"]:
                if not asked["is_impossible"]:
                    answers = tuple(answer["text"] for answer in asked["answers"])
                    questions.append(Question(asked["question"], answers, (gold,), more, (gold,)))
    return Questions(tuple(documents), tuple(questions))


@lru_cache(maxsize=2)
def _hotpotqa(file: Path) -> Questions:
    items: list[Mapping[str, Any]] = data.read_json(file)
    texts = [[f"{title}\n{''.join(sentences)}" for title, sentences in item["context"]] for item in items]
    documents = sorted({text for group in texts for text in group})
    index = {text: number for number, text in enumerate(documents)}
    questions = []
    for item, group in zip(items, texts, strict=True):
        gold = tuple(index[text] for text in group)
        named = {title for title, _ in item["supporting_facts"]}
        needed = tuple(number for number, (title, _) in zip(gold, item["context"], strict=True) if title in named)
        questions.append(Question(item["question"], (item["answer"],), gold, needed=needed or gold))
    return Questions(tuple(documents), tuple(questions))
