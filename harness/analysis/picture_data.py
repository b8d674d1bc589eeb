"""The data behind a picture: rows of one kind, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = TypeVar("Row", bound="DataclassInstance")


@dataclass(frozen=True)
class PictureData(Generic[Row]):
    """What a picture draws.

    Attributes:
        picture: its name.
        rows: of one kind, in the order in which they are drawn; at least one.
        notes: what is to be known of the numbers, a sentence each.
        trained: tokens of the length in training by model, where it is known.
        threshold: a score in percent at which a line is drawn; None for no line.
    """

    picture: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    trained: Mapping[str, int] = field(default_factory=dict)
    threshold: float | None = None

    def values(self, name: str) -> list[Any]:
        """What a field of the rows holds, each value once, in the order of the rows."""
        return list(dict.fromkeys(getattr(row, name) for row in self.rows))

    def to_json(self) -> str:
        """All of it; numbers that are none become null."""
        plain = {
            "picture": self.picture,
            "notes": self.notes,
            "trained": self.trained,
            "rows": [_finite(asdict(row)) for row in self.rows],
        }
        return json.dumps(plain, indent=1, ensure_ascii=False) + "\n"

    def to_csv(self) -> str:
        """The rows below a line with the names of their fields."""
        out = io.StringIO()
        names = [item.name for item in fields(self.rows[0])]
        writer = csv.DictWriter(out, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_finite(asdict(row)) for row in self.rows)
        return out.getvalue()


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }
