"""Rows of papers by the names that people type: `paper:gdn2_paper/recurrent/KDA`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from basis.names import did_you_mean, near_names
from harness.analysis.comparison import Place
from harness.analysis.sides import Figure, Side
from harness.errors import UserError
from harness.paths import PUBLISHED, require
from harness.records.published import PublishedRow, suite_rows
from tasks.families import unit_of
from tasks.registry import Column, list_suites, resolve_column

PREFIX = "paper:"
MOST_CLOSE = 3
"""Rows that an unknown name is answered with."""


def paper_side(name: str, folder: Path = PUBLISHED) -> Side:
    """Find a row of a paper.

    Args:
        name: `paper:FILE/ROW`, or `paper:FILE/FAMILY/ROW` where a paper has a row of that name in both its families;
            FILE is a file of results/published, FAMILY is recurrent or hybrid, ROW is the model as printed.
        folder: where the files are.

    Returns:
        The row with the figures of all tables of the paper that are a suite's here.

    Raises:
        UserError: no such row, or several; says which there are.
    """
    found = _rows(folder)
    wanted = name.removeprefix(PREFIX)
    matches = {full: side for full, side in found.items() if wanted in (full, _short(full))}
    if len(matches) == 1:
        return next(iter(matches.values()))
    if matches:
        raise UserError(f"{name}: which one? {' or '.join(PREFIX + full for full in matches)}")
    if not wanted:
        raise UserError(f"{name}: which row? there are {', '.join(PREFIX + full for full in found)}")
    raise UserError(f"{name}: no such row of a paper; {_way_out(wanted, list(found))} (all of them: compare {PREFIX})")


def _way_out(wanted: str, known: Sequence[str]) -> str:
    """The rows whose model looks like the last part of a name, of its file where it has one; else the files."""
    file, last = wanted.partition("/")[0].lower(), wanted.rpartition("/")[2]
    among = [full for full in known if full.partition("/")[0] == file] or list(known)
    models = {full: full.split("/", 2)[2] for full in among}
    near = [last, *near_names(last, models.values())]  # the model may be right and its file wrong
    rows = sorted((full for full in among if models[full] in near), key=lambda full: near.index(models[full]))
    if rows:
        return did_you_mean(PREFIX + full for full in rows[:MOST_CLOSE])
    return f"its files are {', '.join(dict.fromkeys(full.partition('/')[0] for full in known))}"


@lru_cache(maxsize=2)
def _rows(folder: Path) -> dict[str, Side]:
    """Every row by its full name, with the figures of all its tables."""
    require(folder)
    figures: dict[str, dict[Place, Figure]] = {}
    sources: dict[str, list[str]] = {}
    for suite in list_suites():
        tables = suite_rows(suite, folder)
        metrics = {column: resolve_column(column, suite.protocol).info.metric for column in suite.columns if tables}
        for table, rows in tables.items():
            for row in rows:
                full = f"{table.partition('.')[0]}/{row.family}/{row.name}"
                figures.setdefault(full, {}).update(_figures(metrics, row))
                sources.setdefault(full, []).append(row.source)
    return {
        full: Side(PREFIX + full, figures=found, source="; ".join(dict.fromkeys(sources[full])))
        for full, found in figures.items()
    }


def _short(full: str) -> str:
    """The name without the family."""
    file, _, row = full.split("/", 2)
    return f"{file}/{row}"


def _figures(metrics: Mapping[Column, str], row: PublishedRow) -> Iterator[tuple[Place, Figure]]:
    for column, metric in metrics.items():
        value = _value(column, metric, row)
        if value is not None:
            scale = 0.01 if unit_of(column.metric) == "share" else 1.0
            yield Place(column.task, column.length, column.metric), Figure(value * scale, column.samples)


def _value(column: Column, metric: str, row: PublishedRow) -> float | None:
    """The figure of a column by its name, or by task and length, which are of the task's own metric."""
    if column.name is not None and column.name in row.scores:
        return row.scores[column.name]
    return row.scores.get((column.task, column.length or 0)) if column.metric == metric else None
