"""How many steps fit a time: what a few steps of every rival took, all of them trained at once as they will be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gdn2.train.recipe import Recipe

TRIED = 20  # steps of a stage
LOGGED = 10  # steps of a line of the log; the second one counts
MARGIN = 0.9  # of the time that is planned


@dataclass(frozen=True)
class Pace:
    """What a run takes.

    Attributes:
        fixed: seconds beside its steps.
        steps: seconds of all its steps.
    """

    fixed: float
    steps: float


def pace_of(recipe: Recipe, log: Sequence[dict[str, Any]], seconds: float) -> Pace:
    """The pace of a recipe.

    Args:
        recipe: with all its steps.
        log: of a trial, a line every LOGGED steps, each stage TRIED steps long.
        seconds: that the trial took, from its process's start to its end.
    """
    lines = TRIED // LOGGED
    each = [log[(index + 1) * lines - 1]["seconds"] / LOGGED for index in range(len(recipe.stages))]
    steps = sum(stage.steps * second for stage, second in zip(recipe.stages, each, strict=True))
    return Pace(max(0.0, seconds - sum(entry["seconds"] for entry in log)), steps)


def fitting_share(paces: Sequence[Pace], slots: int, seconds: float) -> float:
    """The largest share of their steps that runs can take and be done in time, at most 1; 0 if not even none fit."""
    low, high = 0.0, 1.0
    if finish(paces, slots, 1.0) <= seconds * MARGIN:
        return 1.0
    if finish(paces, slots, 0.0) > seconds * MARGIN:
        return 0.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if finish(paces, slots, middle) <= seconds * MARGIN else (low, middle)
    return low


def finish(paces: Sequence[Pace], slots: int, share: float) -> float:
    """When the last run is done if each begins as soon as there is room, in seconds."""
    ends = [0.0] * slots
    for pace in paces:
        first = ends.index(min(ends))
        ends[first] += pace.fixed + share * pace.steps
    return max(ends)
