"""What each task of a call is charged with: what several tasks share is read for the first of them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from harness.engine.asked import Asked
from harness.engine.units import Plan


@dataclass(slots=True)
class Account:
    """One task's.

    Attributes:
        tokens: read and generated for it.
        shared: tokens of its requests that are not read for it.
    """

    tokens: int = 0
    shared: int = 0


class Accounts(defaultdict[str, Account]):
    """By task; "" for requests that do not say who asks."""

    def __init__(self) -> None:
        super().__init__(Account)

    def charge_reading(self, asked: Asked[Any], plan: Plan) -> None:
        """Charge the prompts of a call; a request that is asked again costs nothing and is shared whole."""
        for i, reads in enumerate(plan.reads):
            first, *others = asked.askers(i)
            size = len(first.input_ids)
            self[first.task].tokens += reads
            self[first.task].shared += size - reads
            for request in others:
                self[request.task].shared += size

    @property
    def shared(self) -> int:
        """Tokens that no task has read."""
        return sum(account.shared for account in self.values())

    def portions(self, tasks: list[str]) -> dict[str, float]:
        """The share of each task in the tokens of all of them; equal shares where there are no tokens."""
        total = sum(self[task].tokens for task in tasks)
        return {task: self[task].tokens / total if total else 1 / len(tasks) for task in tasks}
