"""Figures of papers, as data with their source, in the columns of our suites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basis.files import load_yaml
from basis.names import way_out
from harness.errors import UserError
from harness.paths import PUBLISHED, require
from tasks.registry import Suite

FAMILIES = ("recurrent", "hybrid")
Key = tuple[str, int] | str
"""A column of a paper's table: the name that our column has, or our task and its length."""


@dataclass(frozen=True)
class PublishedRow:
    """One model of a paper's table.

    Attributes:
        name: the model, as printed.
        family: recurrent or hybrid.
        source: paper and table.
        scores: figures as printed, by column; what is not printed is not there.
    """

    name: str
    family: str
    source: str
    scores: Mapping[Key, float]


def suite_rows(suite: Suite, folder: Path = PUBLISHED) -> dict[str, list[PublishedRow]]:
    """Read the rows of the tables that a suite names, by table.

    Args:
        suite: any.
        folder: where the files are.

    Raises:
        UserError: as `table_rows`; the message begins with the suite's file and field where it names no table.
    """
    tables = () if suite.published is None else suite.published.tables
    return {table: table_rows(table, folder, f"{suite.file}: published.tables: ") for table in tables}


def table_rows(table: str, folder: Path = PUBLISHED, where: str = "") -> list[PublishedRow]:
    """Read the rows of one table.

    Args:
        table: `file.table`. Its `columns` are a list of names, or tasks with the lengths of each.
        folder: where the files are.
        where: what messages of a file or table that is not there begin with.

    Raises:
        UserError: no such folder, file or table, a row whose number of figures is not that of its columns, or a figure
            that is no number; names file, table and row.
    """
    stem, _, name = table.partition(".")
    file = require(folder) / f"{stem}.yaml"
    if not file.is_file():
        known = sorted(other.stem for other in folder.glob("*.yaml"))
        raise UserError(f"{where}published table {table!r}: no file {file}; {way_out(stem, known)}")
    raw = load_yaml(file)
    tables = {key: value for key, value in raw.items() if isinstance(value, dict) and "columns" in value}
    if name not in tables:
        raise UserError(f"{where}{file}: no table {name!r} with columns; {way_out(name, tables)}")
    columns, source = tables[name]["columns"], f"{raw.get('source')}, {name.replace('_', ' ')}"
    return [
        PublishedRow(row, family, source, _scores(f"{file}: {name}: {row}", columns, figures))
        for family in FAMILIES
        for row, figures in tables[name].get(family, {}).items()
    ]


def published_models(folder: Path = PUBLISHED) -> list[tuple[str, str]]:
    """The family and the name of each model of all tables, each once.

    Args:
        folder: where the files are.
    """
    found: dict[tuple[str, str], None] = {}
    for file in sorted(require(folder).glob("*.yaml")):
        for table in load_yaml(file).values():
            if isinstance(table, Mapping) and "columns" in table:
                found |= {(family, name): None for family in FAMILIES for name in table.get(family, {})}
    return list(found)


def _scores(where: str, columns: Any, figures: Any) -> dict[Key, float]:
    """The figures of a row by column."""
    if not isinstance(columns, Mapping):
        return dict(_pairs(where, "columns", columns, figures))
    scores: dict[Key, float] = {}
    for task, lengths in columns.items():
        pairs = _pairs(f"{where}: {task}", "lengths", lengths, figures.get(task, []))
        scores.update({(task, int(length)): value for length, value in pairs})
    return scores


def _pairs(where: str, what: str, columns: Any, figures: Any) -> list[tuple[Any, float]]:
    if len(figures) != len(columns):
        raise UserError(f"{where} has {len(figures)} figures for {len(columns)} {what}")
    pairs = [(column, value) for column, value in zip(columns, figures, strict=True) if value is not None]
    for column, value in pairs:
        if type(value) not in (int, float):
            raise UserError(f"{where}: the figure of {column} must be a number, got {value!r}")
    return pairs
