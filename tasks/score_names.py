"""Names that scoring functions keep wherever their code lies: hashes of results hold them, never a module's path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_Score = TypeVar("_Score", bound=Callable[..., Any])
SCORES: dict[str, Callable[..., Any]] = {}
"""The scoring functions of this project by name. A name once given is never changed: records were hashed with it."""


def known_as(name: str) -> Callable[[_Score], _Score]:
    """Give a scoring function (lm-eval's `process_results`) its name.

    Raises:
        ValueError: the name belongs to another function.
    """

    def enter(function: _Score) -> _Score:
        if name in SCORES:
            raise ValueError(f"two scoring functions are called {name!r}")
        SCORES[name] = function
        return function

    return enter


def score_name(function: Callable[..., Any]) -> str:
    """The name of a scoring function; for a function of the user's own, its module and its name there."""
    own = f"{function.__module__}.{function.__qualname__}"
    return next((name for name, known in SCORES.items() if known is function), own)
