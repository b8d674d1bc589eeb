"""Rows of papers by the names that people type: `paper:gdn2_paper/recurrent/KDA`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from harness.analysis.comparison import Place
from harness.analysis.sides import Figure, Side
from harness.errors import UserError
from harness.paths import PUBLISHED, require
from harness.records.published import PublishedRow, table_rows
from tasks.families import unit_of
from tasks.registry import Column, list_suites, resolve_column

PREFIX = "paper:"


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
    close = difflib.get_close_matches(wanted, [*found, *map(_short, found)], n=3, cutoff=0.5)
    known = " or ".join(PREFIX + each for each in close) if close else ", ".join(PREFIX + each for each in found)
    raise UserError(f"{name}: no such row of a paper; {'did you mean' if close else 'there are'} {known}")


@lru_cache(maxsize=2)
def _rows(folder: Path) -> dict[str, Side]:
    """Every row by its full name, with the figures of all its tables."""
    require(folder)
    figures: dict[str, dict[Place, Figure]] = {}
    sources: dict[str, list[str]] = {}
    for suite in list_suites():
        tables = () if suite.published is None else suite.published.tables
        metrics = {column: resolve_column(column, suite.protocol).info.metric for column in suite.columns if tables}
        for table in tables:
            for row in table_rows(table, folder):
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
