"""Scores of YAML retrieval tasks. Pure functions of a document and its response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.scoring import string_match_all


def score(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """lm-eval's `process_results`: metric `acc` by the document's `scoring`.

    `all`: the fraction of answers that occur, case ignored (RULER's string_match_all). `any`: 1 if one of them does.
    `first_line`: as `all`, in the first line that is not empty. `exact`: 1 if the first line, without white space and a
    full stop at its ends, is the answer.
    """
    answer = results[0]
    scoring = doc["scoring"]
    if scoring in ("first_line", "exact"):
        answer = next((line.strip() for line in answer.splitlines() if line.strip()), "")
    if scoring == "exact":
        return {"acc": float(answer.rstrip(".").strip().lower() == doc["outputs"][0].lower())}
    found = string_match_all(answer, doc["outputs"])
    return {"acc": float(found > 0) if scoring == "any" else found}
