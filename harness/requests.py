"""What the engine is asked: token ids and where to stop. Typed once, at the border with lm-eval."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Score `target_ids` behind `context_ids`; neither is empty."""

    context_ids: list[int]
    target_ids: list[int]


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """Continue `context_ids` greedily by at most `max_tokens`, until a token of `end_ids` or until `is_finished`
    says so of the ids generated so far."""

    context_ids: list[int]
    max_tokens: int
    end_ids: frozenset[int]
    is_finished: Callable[[list[int]], bool]


def batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, the longest first: what runs out of memory does so at once."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
