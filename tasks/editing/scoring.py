"""Outcomes of memory-editing answers. Pure functions of a document and its response.

A document lists every value that its text gives (`values`) with what giving it would mean (`roles`). The first of them
in the answer decides, as a word of its own and case ignored: an answer that goes through all values is not right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.answers import Wanted, kind_of, texts
from tasks.score_names import known_as

OUTCOMES: dict[str, tuple[str, ...]] = {
    "overwrite": ("right", "stale", "swapped", "other", "mute"),
    "retention": ("right", "scrambled", "edited", "other", "mute"),
    "forget_withdrawn": ("withheld", "leaked", "swapped"),
    "forget_kept": ("right", "denied", "swapped", "other", "mute"),
    "recall": ("right", "swapped", "other", "mute"),
}
"""The outcomes of each question: every answer has exactly one."""
METRICS = ("recall", *dict.fromkeys(name for names in OUTCOMES.values() for name in names))
"""Besides `acc`: one for each outcome, and `recall`, the share of right answers about kept keys."""
OUTDATED = ("stale", "leaked")
"""The roles of values that no longer hold."""
DENIAL = re.compile(r"\b(none|nothing|void|withdrawn|unknown|no)\b", re.IGNORECASE)
"""What says that there is no value; it counts if no value comes before it."""


def outcome(doc: Mapping[str, Any], answer: str) -> str:
    """What an answer means, one of `OUTCOMES[doc["question"]]`."""
    question: str = doc["question"]
    place, role = first_value(answer, doc["values"], doc["roles"])
    if question.startswith("forget") and DENIAL.search(answer[:place]):
        role = "denied"
    if question == "forget_withdrawn" and role in (None, "denied"):
        return "withheld"
    if role is None:
        return "other" if answer.strip() else "mute"
    return role


def wanted(doc: Mapping[str, Any]) -> Wanted | None:
    """What a document of memory editing wants; None for any other document."""
    question, values, roles = doc.get("question"), texts(doc.get("values")), texts(doc.get("roles"))
    if question not in OUTCOMES or not values or len(values) != len(roles):
        return None
    by_role: dict[str, list[str]] = {"right": [], "stale": [], "other": []}
    for value, role in zip(values, roles, strict=True):
        by_role["right" if role == "right" else "stale" if role in OUTDATED else "other"].append(value)
    return Wanted(
        right=tuple(by_role["right"]),
        stale=tuple(by_role["stale"]),
        others=tuple(by_role["other"]),
        kind=kind_of(values),
        denial=DENIAL if question.startswith("forget") else None,
        may_be_silent=question == "forget_withdrawn",
    )


def first_value(answer: str, values: Sequence[str], roles: Sequence[str]) -> tuple[int, str | None]:
    """Where the answer first gives a value, as a word of its own, and its role; its end and None if nowhere."""
    found: tuple[int, str | None] = (len(answer), None)
    for value, role in zip(values, roles, strict=True):
        match = re.search(rf"(?<!\w){re.escape(value)}(?!\w)", answer, re.IGNORECASE)
        if match and match.start() < found[0]:
            found = match.start(), role
    return found


@known_as("tasks.editing.scoring.score")
def score(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """lm-eval's `process_results`: `acc` and one metric of 0 or 1 for each outcome of the question but `right`."""
    found = outcome(doc, results[0])
    metrics: dict[str, Any] = {name: float(name == found) for name in OUTCOMES[doc["question"]]}
    metrics["acc"] = metrics.pop("right", metrics.get("withheld"))
    return metrics


@known_as("tasks.editing.scoring.score_pair")
def score_pair(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """`process_results` of probe `forget`: `recall` for a kept key, and the `acc` of both documents of a pair."""
    metrics = score(doc, results)
    right = metrics["acc"]
    if doc["question"] == "forget_kept":
        metrics["recall"] = right
    return {**metrics, "acc": [doc["pair"], right]}


def pairs(values: Sequence[Sequence[Any]]) -> list[float]:
    """For each complete pair of (pair, right): 1 if both were right, otherwise 0."""
    found: dict[Any, list[float]] = {}
    for pair, right in values:
        found.setdefault(pair, []).append(right)
    return [min(rights) for rights in found.values() if len(rights) == 2]


def both_right(values: Sequence[Sequence[Any]]) -> float:
    """lm-eval's aggregation of pairs: the share with both right; not a number without a complete pair."""
    complete = pairs(values)
    return sum(complete) / len(complete) if complete else float("nan")


both_right.units = pairs  # type: ignore[attr-defined]
