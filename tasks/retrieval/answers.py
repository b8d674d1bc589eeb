"""What documents of retrieval from real texts want."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.answers import FREE_TEXT, Wanted, texts
from tasks.scoring import first_line


def wanted(doc: Mapping[str, Any]) -> Wanted | None:
    """What a document over a real text wants: one of its references, in words; None for any other document.

    Documents of lm-eval's own recall tasks have a `value` for a `key` or behind a `text`.
    """
    right = texts(doc.get("outputs"))
    value = doc.get("value")
    if not right and isinstance(value, str) and value.strip() and ("key" in doc or "text" in doc):
        right = (value.strip(),)
    if not right:
        return None
    query = str(next((doc[name] for name in ("query", "question", "key") if doc.get(name)), ""))
    return Wanted(right=right, kind=FREE_TEXT, query=query, reads=first_line)
