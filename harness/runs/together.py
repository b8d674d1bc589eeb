"""Tasks that begin alike: the same documents asked twice, or read once and read twice.

They are run in one call of the engine, which reads what they share once. Seen in their texts, before anything is
tokenised or run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

BLOCK = 512  # bytes of text; beginnings are compared in whole blocks
SHARE = 0.05  # of the text of two tasks; tasks that have less in common finish one after the other
MOST_BYTES = 1 << 30  # of text in one call: it is in memory with its tokens
Text = tuple[str, str]
"""The kind of a request, and what its input begins with."""


def groups(tasks: Sequence[Iterable[Text]]) -> list[list[int]]:
    """The tasks' indices in groups that are run together, each group in the place of its first task.

    Args:
        tasks: the texts of each task; read once, one task after the other. A single one is not looked at.
    """
    if len(tasks) < 2:
        return [[i] for i in range(len(tasks))]
    found = [_beginnings(texts) for texts in tasks]
    blocks, size = [len(hashes) for hashes, _ in found], [num_bytes for _, num_bytes in found]
    group_of = list(range(len(found)))
    for (a, b), common in sorted(_common([hashes for hashes, _ in found]).items(), key=lambda item: (-item[1], item)):
        first, second = sorted((group_of[a], group_of[b]))
        if first == second or common < SHARE * (blocks[a] + blocks[b]) or size[first] + size[second] > MOST_BYTES:
            continue
        size[first] += size[second]
        group_of = [first if group == second else group for group in group_of]
    return [[i for i, group in enumerate(group_of) if group == first] for first in sorted(set(group_of))]


def _beginnings(texts: Iterable[Text]) -> tuple[NDArray[np.uint64], int]:
    """(a hash of every beginning of whole blocks, once each; bytes of all texts)."""
    found: set[int] = set()
    size, last = 0, ("", "")
    for text in texts:
        if text == last:  # the next choice behind the same context
            continue
        kind, content = text[0].encode(), text[1].encode()
        last, size = text, size + len(content)
        digest = kind
        for end in range(BLOCK, len(content) + 1, BLOCK):
            digest = blake2b(digest + content[end - BLOCK : end], digest_size=8).digest()
            found.add(int.from_bytes(digest, "big"))
    return np.fromiter(found, dtype=np.uint64, count=len(found)), size


def _common(hashes: Sequence[NDArray[np.uint64]]) -> Counter[tuple[int, int]]:
    """How many beginnings each pair of tasks has in common."""
    every = np.concatenate(hashes)
    task = np.repeat(np.arange(len(hashes)), [len(part) for part in hashes])
    order = np.argsort(every, kind="stable")  # tasks of equal beginnings in their order
    starts = np.flatnonzero(np.diff(every[order], prepend=~every[order[:1]]))
    counts: Counter[tuple[int, int]] = Counter()
    for start, length in zip(starts, np.diff(starts, append=len(every)), strict=True):
        if length > 1:
            counts.update(combinations(task[order[start : start + length]].tolist(), 2))
    return counts
