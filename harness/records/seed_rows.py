"""Trainings with several seeds in a table: a row with the mean above the rows of the seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING

from harness.records.stats import interval_over_seeds
from harness.records.table import Entry, Header, Row

if TYPE_CHECKING:
    from tasks.metrics import Unit

LEAST_SEEDS = 3
"""Of a training, for an interval or a test over them."""
MEANING = (
    "A mean of seeds has no mark here, and from three seeds on an interval over them (Student's t); compare --seeds "
    "tests trainings"
)


def with_means(rows: Sequence[Row], headers: Sequence[Header]) -> list[Row]:
    """Add a row with the mean before the first seed of each training.

    Args:
        rows: any. Those of one section are the seeds of one training if their records name one recipe and no seed
            twice: checkpoints of several steps of one seed are none.
        headers: the columns.

    Returns:
        All rows, means among them.
    """
    trainings: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.recipe is not None:
            trainings.setdefault((row.section, row.recipe), []).append(row)
    several = {
        key: found for key, found in trainings.items() if of_one_training([(row.recipe, row.seed) for row in found])
    }
    made: list[Row] = []
    met = set()
    for row in rows:
        key = row.section, row.recipe or ""
        if key in several and key not in met:
            met.add(key)
            made.append(_mean(several[key], headers))
        made.append(replace(row, of_mean=True) if key in several else row)
    return made


def of_one_training(said: Sequence[tuple[str | None, int | None]]) -> bool:
    """Whether recipes and seeds, as records say them, are several seeds of one training: one recipe, no seed twice."""
    recipes, seeds = {recipe for recipe, _ in said}, {seed for _, seed in said}
    return len(said) > 1 and len(recipes) == 1 and None not in recipes and len(seeds) == len(said)


def below_their_means(rows: Sequence[Row]) -> list[Row]:
    """Put the rows of seeds, in the order of the seeds, below the mean of their training, wherever that stands."""
    found: list[Row] = []
    for row in rows:
        if not is_mean_or_other(row):
            continue
        found.append(row)
        if row.of_mean:
            its = [one for one in rows if _training(one) == _training(row) and one.seed is not None]
            found += sorted(its, key=lambda one: one.seed or 0)
    return found


def is_mean_or_other(row: Row) -> bool:
    """Whether a row is none of the seeds of a mean."""
    return not row.of_mean or row.seed is None


def _training(row: Row) -> tuple[str, str | None]:
    return row.section, row.recipe


def _mean(seeds: Sequence[Row], headers: Sequence[Header]) -> Row:
    """The row of a training: a column that one of its seeds lacks has no mean, nor has one of lengths."""
    names = [row.name for row in seeds]
    name = training_name(names)
    columns = zip(headers, zip(*(row.entries for row in seeds), strict=True), strict=True)
    entries = tuple(None if header.tested else _mean_entry(entries, header.unit) for header, entries in columns)
    return Row(
        f"{name}, mean",
        seeds[0].section,
        entries,
        model=name,
        recipe=seeds[0].recipe,
        of_mean=True,
    )


def _mean_entry(entries: Sequence[Entry | None], unit: Unit) -> Entry | None:
    there = [entry for entry in entries if entry is not None]
    if len(there) < len(entries):
        return None
    values = [entry.value for entry in there]
    mean, low, high = mean_of_seeds(values, 100.0 if unit == "share" else math.inf)
    return Entry(mean, low, high, notes=tuple(sorted({note for entry in there for note in entry.notes})))


def mean_of_seeds(values: Sequence[float], most: float) -> tuple[float, float | None, float | None]:
    """The mean of a training's seeds with both ends of its 95 % interval, which are None for fewer than three seeds.

    Args:
        values: at least one, none below 0.
        most: what a value can be at most; the interval is cut there, and at 0.
    """
    mean = sum(values) / len(values)
    found = interval_over_seeds(values) if len(values) >= LEAST_SEEDS else None
    return (mean, None, None) if found is None else (mean, max(0.0, found[0]), min(most, found[1]))


def training_name(names: Sequence[str]) -> str:
    """What a training's seeds have in common at the beginning of their names; the first name if that is nothing."""
    shared = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in shared).rstrip(" -_.@") or names[0]
