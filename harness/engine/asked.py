"""The requests of one call: equal ones are run once, known ones not at all, and every result reaches all who asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from harness.engine.journal import Journal
from harness.engine.journal_lines import Result
from harness.engine.requests import GenerateRequest, ScoreRequest

Request = TypeVar("Request", ScoreRequest, GenerateRequest)


class Asked(Generic[Request]):
    """What is asked, what is known, what is finished.

    Attributes:
        distinct: the requests without repetition, in their first order; results are kept by their index in it.
        keys: theirs, in the same order.
        found: results that the journal has.
    """

    def __init__(self, requests: Sequence[Request], journal: Journal, done: Callable[[int, Any], None]) -> None:
        self._journal, self._done = journal, done
        self._requests: Sequence[Request] = requests
        self.keys: list[str] = []
        self._owners: list[list[int]] = []
        self.distinct: list[Request] = []
        place: dict[str, int] = {}
        for index, request in enumerate(requests):
            key = request.key()
            if key not in place:
                place[key] = len(self.distinct)
                self.distinct.append(request)
                self.keys.append(key)
                self._owners.append([])
            self._owners[place[key]].append(index)
        known = {i: journal.get(key) for i, key in enumerate(self.keys) if key in journal}
        self.found: dict[int, Any] = {i: result for i, result in known.items() if _answers(self.distinct[i], result)}
        self._results: dict[int, Any] = {}

    def askers(self, index: int) -> list[Request]:
        """All requests that are equal to a distinct one."""
        return [self._requests[owner] for owner in self._owners[index]]

    def finish(self, results: Mapping[int, Any]) -> int:
        """Keep results, on disk first, then tell who asked; returns how many requests that were."""
        self._journal.add({self.keys[i]: result for i, result in results.items() if i not in self.found})
        told = 0
        for i, result in results.items():
            for owner in self._owners[i]:
                self._results[owner] = result
                self._done(owner, result)
                told += 1
        return told

    def results(self) -> list[Any]:
        """All results in the order of the requests."""
        return [self._results[index] for index in range(len(self._requests))]


def _answers(request: ScoreRequest | GenerateRequest, result: Result) -> bool:
    """Whether a result is of the kind that was asked for: a score, or generated ids."""
    return isinstance(result, tuple) == isinstance(request, ScoreRequest)
