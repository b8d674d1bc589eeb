"""Questions that are answered without reading: any sentence holds their answer, or the question itself does.

Tasks of this project leave them out. Where the protocol is another's they are asked, and counted in the record's cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.scoring import contains, score_any, score_contains, score_stripped_value, score_words

SHORTEST = 2
"""Characters of a reference; one character occurs in nearly every sentence."""
BY_CONTAINMENT = (score_any, score_contains, score_stripped_value, score_words)
"""Scoring functions that one reference anywhere in an answer satisfies."""


def is_given_away(question: str, references: Sequence[str]) -> bool:
    """Whether a reference has one character, or occurs in the question to the letter, case ignored."""
    return any(len(reference.strip()) < SHORTEST for reference in references) or bool(contains(question, references))


def count_given_away(config: Mapping[str, Any], docs: Sequence[Mapping[str, Any]]) -> int | None:
    """Count the documents of a task that are given away.

    Args:
        config: the task's, as lm-eval has it.
        docs: its documents. What they ask is in their `query`, or in the `question` or `key` of their data set; what
            scores in their `outputs`, or in their `value`.

    Returns:
        None for a task that is scored otherwise than by the occurrence of any one reference.
    """
    if config.get("process_results") not in BY_CONTAINMENT:
        return None
    return sum(is_given_away(_question(doc), doc["outputs"] if "outputs" in doc else [doc["value"]]) for doc in docs)


def _question(doc: Mapping[str, Any]) -> str:
    return str(next((doc[name] for name in ("query", "question", "key") if doc.get(name)), ""))
