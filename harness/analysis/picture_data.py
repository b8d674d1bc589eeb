"""The data behind a picture: rows of one kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
