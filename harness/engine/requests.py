"""What the engine is asked: token ids and where to stop, as plain data that can be hashed and sent elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Score `target_ids` behind `context_ids`; neither is empty.

    Attributes:
        task: who asks; its result does not depend on it.
    """

    context_ids: list[int]
    target_ids: list[int]
    task: str = field(default="", compare=False)

    @property
    def input_ids(self) -> list[int]:
        """What the model reads; the last target predicts nothing that is scored."""
        return self.context_ids + self.target_ids[:-1]

    def key(self) -> str:
        """SHA-256 of all that its result depends on besides model and protocol."""
        return _hash("score", [len(self.context_ids)], self.context_ids, self.target_ids)


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """Continue `context_ids` greedily.

    Attributes:
        max_tokens: the most tokens to generate.
        end_ids: tokens that end it; the one that did is part of the result.
        stops: strings that end it as soon as the generated text contains one.
        references: if not empty, it also ends when each of them has appeared in the text, case ignored.
        task: who asks; its result does not depend on it.
    """

    context_ids: list[int]
    max_tokens: int
    end_ids: frozenset[int]
    stops: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    task: str = field(default="", compare=False)

    @property
    def input_ids(self) -> list[int]:
        """What the model reads before the first token is generated."""
        return self.context_ids

    def key(self) -> str:
        """SHA-256 of all that its result depends on besides model and protocol."""
        limits = [self.max_tokens, *sorted(self.end_ids)]
        return _hash("generate", limits, self.context_ids, [], [*self.stops], [*self.references])


def _hash(kind: str, *parts: Sequence[int] | Sequence[str]) -> str:
    return hashlib.sha256(json.dumps([kind, *parts]).encode()).hexdigest()
