"""Figures of papers, as data with their source, in the columns of our suites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError
from harness.machine import ROOT

FOLDER = ROOT / "results" / "published"


@dataclass(frozen=True)
class PublishedRow:
    """`scores`: percentages by (task, length), as printed; `family`: recurrent or hybrid; `source`: paper and table."""

    name: str
    family: str
    source: str
    scores: Mapping[tuple[str, int], float]


def ruler_rows(folder: Path = FOLDER) -> list[PublishedRow]:
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


def _scores(
    file: Path, name: str, columns: Mapping[str, list[int]], figures: Mapping[str, list[float | None]]
) -> dict[tuple[str, int], float]:
    scores = {}
    for task, lengths in columns.items():
        values = figures.get(task, [])
        if len(values) != len(lengths):
            raise UserError(f"{file}: {name}: {task} has {len(values)} figures for {len(lengths)} lengths")
        scores.update(
            {(task, length): value for length, value in zip(lengths, values, strict=True) if value is not None}
        )
    return scores
