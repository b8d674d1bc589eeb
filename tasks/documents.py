"""Documents as the data set that lm-eval reads, however long they are together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datasets


def as_dataset(docs: Sequence[Mapping[str, Any]]) -> datasets.Dataset:
    """Make a data set of documents.

    Arrow counts the bytes of a column of strings with 32 bits, which 500 documents of a million tokens exceed. Columns
    of text are therefore `large_string`, counted with 64. What types the columns have is found from shortened texts.

    Args:
        docs: documents with the same fields.

    Returns:
        The documents in their order.
    """
    import datasets

    shortened = [{name: value[:1] if isinstance(value, str) else value for name, value in doc.items()} for doc in docs]
    found = datasets.Dataset.from_list(shortened).features
    features = datasets.Features(
        {
            name: datasets.Value("large_string") if feature == datasets.Value("string") else feature
            for name, feature in found.items()
        }
    )
    return datasets.Dataset.from_list([dict(doc) for doc in docs], features=features)
