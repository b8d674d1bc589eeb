"""Checkpoints of one training, called by it and a step: `name@2000`, `name@2k`, `name@1.5M`, `name@step-2000`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from harness.records.table import Row

NAME = re.compile(r"(.+)@(?:step)?[-_]?([0-9]+(?:\.[0-9]+)?)([kKmM]?)((?: .*)?)", re.DOTALL)
FACTORS = {"": 1.0, "k": 1e3, "m": 1e6}


def step_of(name: str) -> tuple[str, float] | None:
    """The training and the step that a model's name says; None where it says none.

    What stands behind the step, such as digits of a checkpoint in brackets, is behind the training's name too.
    """
    if (found := NAME.fullmatch(name)) is None:
        return None
    return found[1] + found[4], float(found[2]) * FACTORS[found[3].lower()]


def in_sections(rows: Sequence[Row], section: str) -> list[Row]:
    """Give each training of several checkpoints a section of its own, its rows in the order of steps.

    Args:
        rows: any, those of one section one after the other.
        section: the one whose rows are looked at.

    Returns:
        All rows; those of trainings come behind the others of that section.
    """
    counted = Counter(row.training for row in rows if row.section == section and row.training is not None)
    several = {training for training, count in counted.items() if count > 1}
    moved = [row for row in rows if row.section == section and row.training in several]
    steps = sorted(moved, key=lambda row: (row.training or "", row.step or 0.0))
    rest = [row for row in rows if row.section != section or row.training not in several]
    first = next((place for place, row in enumerate(rows) if row.section == section), 0)
    end = first + sum(row.section == section for row in rest)
    return [*rest[:end], *map(_below_its_training, steps), *rest[end:]]


def _below_its_training(row: Row) -> Row:
    found = NAME.fullmatch(row.name)
    name = row.name if found is None else f"step {found[2]}{found[3]}{found[4]}"  # a file may have renamed it
    training = row.training if found is None else found[1]
    return replace(row, section=f"{training}, by step", name=name, full=row.name)
