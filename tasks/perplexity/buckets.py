"""Position buckets: powers of two in tokens, where a text is cut for them, what is scored. Imports nothing heavy."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tasks.errors import TaskError
from tasks.metrics import Metric
from tasks.score_names import known_as

FIRST = 256
"""Tokens of the first bucket; every further one ends at twice the tokens of the one before."""
METRIC = Metric(r"bits_\d+", "bits")
"""Bits per byte of the text of a bucket, which the number of its last token names."""
SMALLEST_BUCKET = 16
"""Tokens that the last bucket, which a length that is no power of two cuts short, has at least."""


def bucket_ends(length: int) -> list[int]:
    """Where buckets end, in tokens: 256, 512, 1024, …, and the length itself.

    Raises:
        TaskError: a length below the first bucket's.
    """
    if length < FIRST:
        raise TaskError(f"spec: field 'length' must be at least {FIRST} tokens, the first bucket, got {length}")
    ends = [FIRST]
    while ends[-1] * 2 <= length:
        ends.append(ends[-1] * 2)
    return ends if length - ends[-1] < SMALLEST_BUCKET else [*ends, length]


def metric_of(end: int) -> str:
    """The metric of the bucket that ends at this token: bits per byte of its text."""
    return f"bits_{end}"


def metrics_at(listed: Sequence[Mapping[str, Any]], length: int) -> list[Mapping[str, Any]]:
    """Of a `metric_list` with buckets of any length, what a document of this length has."""
    others = [entry for entry in listed if not METRIC.matches(entry["metric"])]
    rest = {"aggregation": "bits_per_byte", "higher_is_better": False}
    return [*others, *({"metric": metric_of(end), **rest} for end in bucket_ends(length))]


def boundaries(text: str) -> list[int]:
    """Characters at which a text may be cut: where white space begins, so that what follows keeps its space."""
    return [match.start() for match in re.finditer(r"(?<=\S)\s", text)]


def cut_at(
    text: str,
    ends: Iterable[int],
    count: Callable[[str], int],
    locate: Callable[[str, Sequence[int]], Sequence[int]] | None = None,
) -> list[int] | None:
    """Per bucket the last boundary at which the text so far has at most that many tokens; None if it is too short.

    Args:
        text: the text to be cut.
        ends: where buckets end, in tokens; ascending.
        count: the tokens of a text.
        locate: for characters of a text the number of tokens before each, of one tokenisation of the whole; where the
            text so far has more by itself, the boundary before is taken. Without it, every cut is found by bisection.
    """
    places = [*boundaries(text), len(text.rstrip())]
    if count(text[: places[-1]]) < max(ends := list(ends)):
        return None
    tokens = locate(text, places[:-1]) if locate is not None else None
    found: list[int] = []
    low = 0
    for end in ends:
        high = len(places) - 1
        if tokens is not None:
            high = low = max(low, min(bisect_right(tokens, end), high))
            while count(text[: places[high]]) > end:
                high = low = high - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if count(text[: places[middle]]) <= end else (low, middle - 1)
        found.append(places[low])
    return found


@known_as("tasks.perplexity.buckets.score")
def score(doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, tuple[float, int]]:
    """lm-eval's `process_results`: (log-likelihood, bytes) of the whole and of every bucket."""
    sums = [float(result[0]) for result in results]
    sizes = [len(part.encode()) for part in parts(doc)]
    scores = {metric_of(end): (total, size) for end, total, size in zip(doc["ends"], sums, sizes, strict=True)}
    return {"bits_per_byte": (sum(sums), sum(sizes)), **scores}


def first_word(text: str) -> int:
    """Where the first word ends. It is context, not scored: so every request begins alike, with or without a BOS."""
    return boundaries(text)[0]


def parts(doc: Mapping[str, Any]) -> list[str]:
    """The texts of a document's buckets, in order; with the first word, which is context only, they are its text."""
    starts = [first_word(doc["text"]), *doc["cuts"][:-1]]
    return [doc["text"][start:cut] for start, cut in zip(starts, doc["cuts"], strict=True)]
