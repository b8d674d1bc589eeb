"""Figures of papers, as data with their source, in the columns of our suites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError
from harness.paths import PUBLISHED

Key = tuple[str, int] | str


@dataclass(frozen=True)
class PublishedRow:
    """`scores`: figures as printed, by (task, length) or by the column's name; `family`: recurrent or hybrid; `source`:
    paper and table."""

    name: str
    family: str
    source: str
    scores: Mapping[Key, float]


def ruler_rows(folder: Path = PUBLISHED) -> list[PublishedRow]:
    """The needle tables (`table_3` with columns by task and length) of every file in the folder.

    Raises:
        UserError: a row whose number of figures is not that of its columns; names file, row and task.
    """
    rows = []
    for file in sorted(folder.glob("*.yaml")):
        raw: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
        table = raw.get("table_3", {})
        columns = table.get("columns")
        if not isinstance(columns, Mapping):
            continue
        for family in ("recurrent", "hybrid"):
            for name, figures in table.get(family, {}).items():
                if name == "transcriptions":
                    continue
                rows.append(
                    PublishedRow(name, family, f"{raw['source']}, table 3", _scores(file, name, columns, figures))
                )
    return rows


def table_rows(table: str, folder: Path = PUBLISHED) -> list[PublishedRow]:
    """The rows of one table, named `file.table`, whose columns are a list of names.

    Raises:
        UserError: no such file or table, or a row whose number of figures is not that of the columns.
    """
    stem, _, name = table.partition(".")
    file = folder / f"{stem}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(other.stem for other in folder.glob("*.yaml")))
        raise UserError(f"published table {table!r}: no file {file}; there are {known}")
    raw: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    columns = raw.get(name, {}).get("columns")
    if not isinstance(columns, list):
        fitting = ", ".join(key for key in raw if isinstance(raw[key], dict) and "columns" in raw[key])
        raise UserError(f"{file}: no table {name!r} with a list of columns; there are {fitting}")
    rows = []
    for family in ("recurrent", "hybrid"):
        for row, figures in raw[name].get(family, {}).items():
            if len(figures) != len(columns):
                raise UserError(f"{file}: {name}: {row} has {len(figures)} figures for {len(columns)} columns")
            scores = {column: value for column, value in zip(columns, figures, strict=True) if value is not None}
            rows.append(PublishedRow(row, family, f"{raw['source']}, {name.replace('_', ' ')}", scores))
    return rows


def _scores(
    file: Path, name: str, columns: Mapping[str, list[int]], figures: Mapping[str, list[float | None]]
) -> dict[Key, float]:
    scores: dict[Key, float] = {}
    for task, lengths in columns.items():
        values = figures.get(task, [])
        if len(values) != len(lengths):
            raise UserError(f"{file}: {name}: {task} has {len(values)} figures for {len(lengths)} lengths")
        scores.update(
            {(task, length): value for length, value in zip(lengths, values, strict=True) if value is not None}
        )
    return scores
