"""The papers' figures as rows of pictures."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from decimal import Decimal

from basis.names import way_out
from harness.analysis.score_rows import LengthRow
from harness.analysis.shown import Spot
from harness.errors import UserError
from harness.records.leaderboard import published_figure
from harness.records.published import suite_rows
from harness.records.stats import wilson_interval
from tasks.families import unit_of

PUBLISHED_SAMPLES = 500
"""RULER's default, taken for the number of samples of a published share whose suite says none."""


def printed_rows(spots: Sequence[Spot], wanted: Sequence[str]) -> Iterator[LengthRow]:
    """The papers' figures at these spots.

    Args:
        spots: of the figures.
        wanted: names of papers' rows, or patterns of them.

    Raises:
        UserError: a name of no row.
    """
    suites = {id(spot.suite): spot.suite for spot in spots}.values()
    tables = {table: rows for suite in suites if wanted for table, rows in suite_rows(suite).items()}
    rows = [row for found in tables.values() for row in found]
    names = {id(row): f"{row.name} ({row.family})" for row in rows}
    for pattern in wanted:
        if not any(_is_wanted(name, pattern) for name in names.values()):
            hint = way_out(pattern, names.values(), also=[row.name for row in rows])
            raise UserError(f"--published {pattern}: no published row of these tasks has this name; {hint}")
    for row in rows:
        if not any(_is_wanted(names[id(row)], pattern) for pattern in wanted):
            continue
        for spot in spots:
            figure = published_figure(row, spot.resolved)
            if figure is not None:
                yield _printed_row(names[id(row)], row.source, spot, figure)


def _is_wanted(name: str, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(one, pattern) for one in (name, name.rpartition(" (")[0]))


def _printed_row(name: str, source: str, spot: Spot, figure: float) -> LengthRow:
    column, unit = spot.column, unit_of(spot.column.metric)
    n = column.samples or PUBLISHED_SAMPLES
    value = float(Decimal(repr(figure)) / 100) if unit == "share" else figure  # 55.8 % is 0.558
    low, high = wilson_interval(round(value * n), n) if unit == "share" and 0 <= value <= 1 else (None, None)
    return LengthRow(
        model=name,
        task=column.task,
        metric=column.metric,
        unit=unit,
        value=value,
        low=low,
        high=high,
        n=n,
        source=source,
        length=column.length or 0,
        published=True,
    )
