"""What RULER's documents want."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.answers import FREE_TEXT, Wanted, kind_of, texts
from tasks.ruler.templates import QUESTION_SOURCES


def wanted(doc: Mapping[str, Any]) -> Wanted | None:
    """What a document of RULER wants; None for any other document.

    Questions among documents are answered in words. Of the other tasks the references say what values look like, and a
    needle task's document lists the values of its context. The score finds a number between letters, too, so wrong
    ones count there as well.
    """
    right = texts(doc.get("outputs"))
    if not right or "generator" not in doc or "scoring" in doc or "roles" in doc:
        return None
    if doc.get("task") in QUESTION_SOURCES:
        return Wanted(right=right, kind=FREE_TEXT, query=str(doc.get("query") or ""))
    values = texts(doc.get("values"))
    others = tuple(value for value in values if value not in right)
    return Wanted(right=right, others=others, kind=kind_of((*right, *values), is_loose=True))
