"""Small data in the layouts of the staged files, always the same: RULER's tasks run on it without the real files."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from task_data import essay_text

from tasks.text import words

TASKS = (
    *("niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multikey_2", "niah_multikey_3"),
    *("niah_multivalue", "niah_multiquery", "vt", "cwe", "fwe", "qa_1", "qa_2"),
)


def write_ruler_data(folder: Path) -> Path:
    """Essays of 900 sentences, 12 SQuAD articles, 40 HotpotQA questions with 10 documents each."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "essays.json").write_text(json.dumps({"text": essay_text()}))
    (folder / "squad.json").write_text(json.dumps(_squad(random.Random(1))))
    (folder / "hotpotqa.json").write_text(json.dumps(_hotpotqa(random.Random(2))))
    return folder


def _sentences(rng: random.Random, count: int) -> list[str]:
    adjectives, nouns = words.word_lists()
    return [f"The {rng.choice(adjectives)} {rng.choice(nouns)} saw a {rng.choice(nouns)}." for _ in range(count)]


def _squad(rng: random.Random) -> dict[str, Any]:
    articles = []
    for article in range(12):
        paragraphs: list[dict[str, Any]] = []
        for number in range(6):
            answer = f"{rng.choice(words.word_lists()[1])} {article}{number}"
            context = " ".join([*_sentences(rng, 6), f"It is called {answer}."])
            answers = [{"text": text, "answer_start": 0} for text in (answer, f"the {answer}")]
            asked = {"question": f"What is called {number} of {article}?", "id": f"{article}-{number}"}
            unanswerable = {"question": "Why?", "id": f"{article}-{number}-x", "is_impossible": True, "answers": []}
            paragraphs.append({"context": context, "qas": [{**asked, "is_impossible": False, "answers": answers}]})
            paragraphs[-1]["qas"].append(unanswerable)
        articles.append({"title": f"Article {article}", "paragraphs": paragraphs})
    return {"version": "v2.0", "data": articles}


def _hotpotqa(rng: random.Random) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for number in range(40):
        context = [[f"Title {number}-{place}", _sentences(rng, 3)] for place in range(10)]
        items.append({"_id": f"h{number}", "question": f"Who saw number {number}?", "answer": f"yes {number}"})
        facts = [[context[place][0], 0] for place in (2, 7)]
        items[-1] |= {"context": context, "supporting_facts": facts, "type": "bridge", "level": "hard"}
    return items
