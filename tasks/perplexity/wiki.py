"""Held-out Wikipedia paragraphs as documents for rolling log-likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks import data
from tasks.documents import as_dataset
from tasks.subset import SubsetSpec, choose, text_hash

if TYPE_CHECKING:
    import datasets

TASK = "wiki_perplexity"


def build(
    spec: Mapping[str, Any], *, max_samples: int | None = None, **_lm_eval_metadata: Any
) -> dict[str, datasets.Dataset]:
    """The documents, called by lm-eval with `dataset_kwargs` and its metadata.

    Raises:
        TaskError: a wrong field.
        DataNotStaged: wiki_heldout.jsonl is missing.
    """
    parsed = SubsetSpec.parse(spec)
    docs = [
        {
            "text": paragraph.text,
            "title": paragraph.title,
            "task": TASK,
            "index": index,
            "seed": parsed.seed,
            "sample_hash": text_hash(paragraph.text),
        }
        for index, paragraph in enumerate(choose(TASK, data.wiki_heldout(), parsed, max_samples))
    ]
    return {"test": as_dataset(docs)}
