"""The numbers behind a picture as JSON and CSV, exact: neither rounded nor in percent."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from harness.analysis.picture_data import PictureData
from harness.show.data import in_csv


def values_json(data: PictureData[Any]) -> str:
    """Rows and remarks; numbers that are none become null."""
    plain = {
        "picture": data.picture,
        "notes": data.notes,
        "trained": data.trained,
        "rows": [_finite(asdict(row)) for row in data.rows],
    }
    return json.dumps(plain, indent=1) + "\n"


def values_csv(data: PictureData[Any]) -> str:
    """The rows below a line with the names of their fields; text that no spreadsheet computes."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([item.name for item in fields(data.rows[0])])
    writer.writerows([in_csv(_flat(value)) for value in _finite(asdict(row)).values()] for row in data.rows)
    return out.getvalue()


def _flat(value: Any) -> Any:
    """Several numbers as one field."""
    return "; ".join(map(str, value)) if isinstance(value, tuple) else value


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }
