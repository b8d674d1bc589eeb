"""Trainings with several seeds in a table: a row with the mean above the rows of the seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from harness.records.stats import interval_over_seeds
from harness.records.table import Entry, Header, Row
from harness.records.trainings import Said, by_training, seeds_twice

if TYPE_CHECKING:
    from tasks.metrics import Unit

LEAST_SEEDS = 3
"""Of a training, for an interval or a test over them."""
MEANING = (
    "A mean of seeds has no mark here, and from three seeds on{} an interval over them (Student's t); compare --seeds "
    "tests trainings"
)
UNLESS = ", unless they are all alike,"
"""Where a mean has that many seeds."""
MEAN = ", mean"
"""Behind the name of a training, as the name of its mean."""
NO_MEANS = "No means of seeds: no two models here are seeds of one training, as their records say"


def with_means(rows: Sequence[Row], headers: Sequence[Header]) -> list[Row]:
    """Add a row with the mean before the first seed of each training.

    Args:
        rows: any. Those of one section are the seeds of one training if their records name one recipe and no seed
            twice: checkpoints of several steps of one seed are none.
        headers: the columns.

    Returns:
        All rows, means among them.
    """
    trainings: dict[tuple[str, str | None], tuple[str, list[Row]]] = {}
    for section in dict.fromkeys(row.section for row in rows):
        its = [row for row in rows if row.section == section]
        for name, seeds in by_training(its, _said, _name).items():
            trainings[_training(seeds[0])] = name, seeds
    made: list[Row] = []
    met = set()
    for row in rows:
        key = _training(row)
        if key in trainings and key not in met:
            met.add(key)
            made.append(_mean(*trainings[key], headers))
        made.append(replace(row, of_mean=True) if key in trainings else row)
    return made


def said_of_means(rows: Sequence[Row], seeds_are_shown: bool) -> list[str]:
    """Say what is to be known of a table's means of seeds, or why it has none, a sentence each.

    Args:
        rows: all of the table, means and seeds among them.
        seeds_are_shown: whether rows of the seeds stand below their means; else how many there are is said.
    """
    means = [(row.name.removesuffix(MEAN), row.num_seeds) for row in rows if row.num_seeds is not None]
    has_enough = any(count >= LEAST_SEEDS for _, count in means)
    found = [MEANING.format(UNLESS if has_enough else "")] if means else []
    if means and not seeds_are_shown:
        found.append(f"Seeds of each mean: {', '.join(f'{name} ({count})' for name, count in means)}")
    for section in dict.fromkeys(row.section for row in rows):
        said = [(row.name, _said(row)) for row in rows if row.section == section and not row.of_mean]
        found += [f"{sentence[0].upper()}{sentence[1:]}" for sentence in seeds_twice(said)]
    return found or [NO_MEANS]


def below_their_means(rows: Sequence[Row]) -> list[Row]:
    """Put the rows of seeds, in the order of the seeds, below the mean of their training, wherever that stands."""
    found: list[Row] = []
    for row in rows:
        if not is_mean_or_other(row):
            continue
        found.append(row)
        if row.of_mean:
            found += sorted(_seeds_below(row, rows), key=lambda one: one.seed or 0)
    return found


def is_mean_or_other(row: Row) -> bool:
    """Whether a row is none of the seeds of a mean."""
    return not row.of_mean or row.seed is None


def _seeds_below(mean: Row, rows: Sequence[Row]) -> list[Row]:
    """The rows of a mean's seeds."""
    return [row for row in rows if _training(row) == _training(mean) and row.seed is not None]


def _said(row: Row) -> Said:
    return row.recipe, row.seed


def _name(row: Row) -> str:
    return row.name


def _training(row: Row) -> tuple[str, str | None]:
    return row.section, row.recipe


def _mean(name: str, seeds: Sequence[Row], headers: Sequence[Header]) -> Row:
    """The row of a training: a column that one of its seeds lacks has no mean, nor has one of lengths."""
    columns = zip(headers, zip(*(row.entries for row in seeds), strict=True), strict=True)
    entries = tuple(None if header.tested else _mean_entry(entries, header.unit) for header, entries in columns)
    return Row(
        f"{name}{MEAN}",
        seeds[0].section,
        entries,
        recipe=seeds[0].recipe,
        of_mean=True,
        num_seeds=len(seeds),
    )


def _mean_entry(entries: Sequence[Entry | None], unit: Unit) -> Entry | None:
    there = [entry for entry in entries if entry is not None]
    if len(there) < len(entries):
        return None
    found = mean_of_seeds([entry.value for entry in there], unit, 100.0)
    notes = tuple(sorted({note for entry in there for note in entry.notes}))
    return Entry(found.value, found.low, found.high, found.reach, notes=notes)


class MeanOfSeeds(NamedTuple):
    """The mean of a training's seeds with both ends of its 95 % interval, and half of that before it was cut."""

    value: float
    low: float | None = None
    high: float | None = None
    reach: float | None = None


def mean_of_seeds(values: Sequence[float], unit: Unit, scale: float) -> MeanOfSeeds:
    """The mean of a training's seeds with its 95 % interval.

    There is no interval for fewer than three seeds, and for seeds that are all alike: no spread says nothing of another
    seed's.

    Args:
        values: at least one.
        unit: of the values; the interval is cut to what they can be.
        scale: what a share of 1 is: 100 where shares are in percent.
    """
    mean = sum(values) / len(values)
    found = interval_over_seeds(values) if len(values) >= LEAST_SEEDS and len(set(values)) > 1 else None
    if found is None:
        return MeanOfSeeds(mean)
    least, most = (-math.inf if unit == "number" else 0.0), (scale if unit == "share" else math.inf)
    return MeanOfSeeds(mean, max(least, found[0]), min(most, found[1]), found[1] - mean)
