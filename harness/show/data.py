"""A leaderboard for programs: JSON as it is built, CSV with a line a cell.

Numbers are as the records have them, neither rounded nor in percent. Text is plain: in CSV what a spreadsheet would
take for a formula begins with an apostrophe, in JSON control characters are escapes.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from harness.records.table import Entry, Header, Row, Table
from harness.show.plain import UNSEEN, category, plain

VERSION = 1
"""Of the format of both."""
FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # noqa: RUF001
ROW_FIELDS = ("section", "name", "model", "source", "training", "step")
COLUMN_FIELDS = ("column", "group", "label", "task", "length", "metric", "unit", "higher_is_better")
CELL_FIELDS = ("value", "low", "high", "n", "mark", "overlaps_best", "notes", "run_id", "protocol_hash", "reach")
TRAINING_FIELDS = ("recipe", "training_seed", "num_seeds")
"""Of a row; in CSV behind all others, because names and places of older columns stay."""


def to_json(table: Table) -> str:
    """An object with `columns`, `rows` (each with its `cells` by column, null where nothing was run) and remarks."""
    whole = {
        "format": VERSION,
        "title": table.title,
        "description": table.description,
        "columns": [{**_column(header), "average_of": list(header.average_of) or None} for header in table.headers],
        "rows": [_row(table, row) for row in table.rows],
        "overlaps": table.overlaps,
        "explained": table.explained,
        "without_average": table.incomplete,
        "not_run": table.missing,
        "no_column": table.unplaced,
        "passed_over": table.passed,
    }
    text = json.dumps(whole, indent=2, ensure_ascii=False)
    return re.sub(r"[^\n -~]", lambda found: _escaped(found[0]), text) + "\n"


def to_csv(table: Table) -> str:
    """A line a cell with all that is known of it; cells that were not run have no value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("suite", *ROW_FIELDS, *COLUMN_FIELDS, *CELL_FIELDS, *TRAINING_FIELDS))
    for row in table.rows:
        for header, entry in zip(table.headers, row.entries, strict=True):
            cell = _cell(table, row, header, entry)
            place = (*_of_row(row).values(), *_column(header).values())
            fields = [table.title, *place, *cell.values(), *_of_training(row).values()]
            writer.writerow([in_csv(field) for field in fields])
    return out.getvalue()


def _of_row(row: Row) -> dict[str, Any]:
    values = (row.section, row.name, row.model or row.name, row.source, row.training, row.step)
    return dict(zip(ROW_FIELDS, values, strict=True))


def _of_training(row: Row) -> dict[str, Any]:
    return dict(zip(TRAINING_FIELDS, (row.recipe, row.seed, row.num_seeds), strict=True))


def _row(table: Table, row: Row) -> dict[str, Any]:
    cells = {
        header.key or header.name: None if entry is None else _cell(table, row, header, entry)
        for header, entry in zip(table.headers, row.entries, strict=True)
    }
    return {**_of_row(row), **_of_training(row), "notes": _texts(table, row.notes), "cells": cells}


def _column(header: Header) -> dict[str, Any]:
    values = (
        header.key or header.name,
        header.group,
        header.label,
        header.task,
        header.length,
        header.metric,
        header.unit,
        header.higher_is_better,
    )
    return dict(zip(COLUMN_FIELDS, values, strict=True))


def _cell(table: Table, row: Row, header: Header, entry: Entry | None) -> dict[str, Any]:
    """What is known of one number; notes about the whole row are among its notes."""
    if entry is None:
        return dict.fromkeys(CELL_FIELDS)
    score = entry.score
    values = (
        _raw(header, entry.value) if score is None else score.value,
        _end(header, entry.low) if score is None else score.low,
        _end(header, entry.high) if score is None else score.high,
        entry.n,
        entry.mark,
        entry.overlaps_best,
        _texts(table, sorted({*row.notes, *entry.notes})),
        entry.run_id,
        entry.protocol_hash,
        _end(header, entry.reach),
    )
    return dict(zip(CELL_FIELDS, values, strict=True))


def _raw(header: Header, value: float) -> float:
    """A number in the unit of the records; a published 55.8 % is 0.558, not what division makes of it."""
    return float(Decimal(repr(value)) / 100) if header.unit == "share" else value


def _end(header: Header, value: float | None) -> float | None:
    return None if value is None else _raw(header, value)


def _texts(table: Table, numbers: Sequence[int]) -> list[str]:
    return [table.notes[number - 1] for number in numbers]


def _escaped(letter: str) -> str:
    """A character of JSON; what is seen nowhere stands only in texts, where an escape means the same."""
    return json.dumps(letter)[1:-1] if category(letter) in UNSEEN else letter


def in_csv(value: Any) -> Any:
    """A field: numbers as they are, text that no spreadsheet computes."""
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    if isinstance(value, list):
        value = "; ".join(value)
    if not isinstance(value, str):
        return value
    text = plain(value)
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text
