"""The numbers behind a picture as JSON and CSV, exact: neither rounded nor in percent."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.analysis.picture_data import PictureData
from harness.show.data import in_csv

NUM_SEEDS = "num_seeds"


def values_json(data: PictureData[Any]) -> str:
    """Rows and remarks; numbers that are none become null."""
    plain = {
        "picture": data.picture,
        "notes": data.notes,
        "trained": data.trained,
        "rows": _rows(data),
    }
    return json.dumps(plain, indent=1) + "\n"


def values_csv(data: PictureData[Any]) -> str:
    """The rows below a line with the names of their fields; text that no spreadsheet computes."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    rows = _rows(data)
    writer.writerow(rows[0])
    writer.writerows([in_csv(_flat(value)) for value in row.values()] for row in rows)
    return out.getvalue()


def _rows(data: PictureData[Any]) -> list[dict[str, Any]]:
    """The fields of each row; how many seeds a mean is of is the last one, where any row is a mean."""
    rows = [_finite(asdict(row)) for row in data.rows]
    seeds = [row.pop(NUM_SEEDS, None) for row in rows]
    return [row | {NUM_SEEDS: count} for row, count in zip(rows, seeds, strict=True)] if any(seeds) else rows


def _flat(value: Any) -> Any:
    """Several numbers as one field."""
    return "; ".join(map(str, value)) if isinstance(value, tuple) else value


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }
