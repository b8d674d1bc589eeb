"""Scores of YAML retrieval tasks. Pure functions of a document and its response."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks.answers import Wanted, kind_of, texts
from tasks.score_names import known_as
from tasks.scoring import contains, first_line, string_match_all, string_match_part, token_f1

Rule = Callable[[str, Sequence[str]], float]


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 if the first line is the answer, case ignored, both without white space and full stops at their ends."""
    return float(_bare(first_line(answer)) == _bare(references[0]))


def _bare(text: str) -> str:
    return text.strip().rstrip(".").strip().lower()


RULES: dict[str, Rule] = {
    "string_match_all": string_match_all,
    "string_match_part": string_match_part,
    "contains": contains,
    "first_line": lambda answer, references: string_match_all(first_line(answer), references),
    "exact_match": exact_match,
    "f1": lambda answer, references: token_f1(first_line(answer), " ".join(references)),
}
RULES |= {"all": RULES["string_match_all"], "any": RULES["string_match_part"], "exact": RULES["exact_match"]}
"""By name: the share of answers that occur (RULER); 1 if any of them does (RULER's questions); the same to the letter
(Just Read Twice); the share in the first line; that line is the answer; SQuAD's F1 of that line and all answers."""
SCORE = "tasks.needle.scoring.score"
OF_THE_FIRST_LINE = ("first_line", "exact_match", "exact", "f1")
"""Rules that look at nothing else."""
SINGLE = ("exact", "exact_match")
"""Rules for tasks with one answer."""
ANY = ("string_match_part", "any", "contains")
"""Rules by which one of several answers is enough."""


@known_as(SCORE)
def score(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """lm-eval's `process_results` by the document's `scoring`: one rule gives `acc`, a list a metric for each name."""
    scoring, answer, references = doc["scoring"], results[0], doc["outputs"]
    if isinstance(scoring, str):
        return {"acc": RULES[scoring](answer, references)}
    return {name: RULES[name](answer, references) for name in scoring}


def wanted(doc: Mapping[str, Any]) -> Wanted | None:
    """What a document of a YAML retrieval task wants; None for any other document."""
    rules, right = doc.get("scoring"), texts(doc.get("outputs"))
    rule = rules[0] if isinstance(rules, (list, tuple)) and rules else rules
    if rule not in RULES or not right:
        return None
    values = texts(doc.get("values"))
    return Wanted(
        right=right,
        others=tuple(value for value in values if value not in right),
        kind=kind_of((*right, *values)),
        reads=first_line if rule in OF_THE_FIRST_LINE else str,
    )


def metrics_of(scoring: str | Sequence[str]) -> tuple[str, ...]:
    """The metrics that a task's `scoring` gives."""
    return ("acc",) if isinstance(scoring, str) else tuple(scoring)


def file_metrics(raw: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The metrics that the scoring of a user's file gives; None if `process_results` names another function."""
    if str(raw.get("process_results")) != SCORE:
        return None
    return metrics_of(raw["dataset_kwargs"]["spec"].get("scoring", "all"))
