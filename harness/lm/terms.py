"""What surrounds a call of the model: who runs its token ids, on which terms, and what is measured meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from harness.engine.accounts import Accounts
from harness.engine.journal import Journal
from harness.engine.requests import GenerateRequest, ScoreRequest


class RequestRunner(Protocol):
    """What runs token ids: `harness.engine.engine.Engine`, or one that only counts."""

    def score(
        self,
        requests: Sequence[ScoreRequest],
        kind: str,
        done: Callable[[int, tuple[float, bool]], None],
        accounts: Accounts,
        journal: Journal | None,
    ) -> list[tuple[float, bool]]:
        """As `harness.engine.Engine.score`."""
        ...

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        done: Callable[[int, list[int]], None],
        accounts: Accounts,
        journal: Journal | None,
    ) -> list[list[int]]:
        """As `harness.engine.Engine.generate`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Terms:
    """On which terms requests are asked.

    Attributes:
        max_length: tokens of context and continuation that fit; longer ones lose their beginning, as in HFLM.
        stop_at_references: whether a generation may end when every reference of its document has appeared. For
            scores that only ask whether they appear; the generated text is shorter, the score the same.
    """

    max_length: int
    stop_at_references: bool = False


@dataclass
class Measures:
    """What a call of the model measures, apart from its answers.

    Attributes:
        truncated: requests that lost their beginning, by task ("" where lm-eval does not say).
        apart: continuations that merge with the end of their context and were encoded apart from it, by task.
        accounts: the tokens that each task is charged with.
    """

    truncated: Counter[str] = field(default_factory=Counter)
    apart: Counter[str] = field(default_factory=Counter)
    accounts: Accounts = field(default_factory=Accounts)
