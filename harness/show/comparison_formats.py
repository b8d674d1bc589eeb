"""The formats in which a comparison can be written: a name, the endings of its files, a function. One a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.show.formats import format_for

if TYPE_CHECKING:
    from harness.analysis.comparison import ModelComparison


@dataclass(frozen=True)
class ComparisonFormat:
    """A format of comparisons.

    Attributes:
        endings: of files that have it, with their dots.
        write: makes the text of a comparison.
    """

    endings: tuple[str, ...]
    write: Callable[[ModelComparison], str]


def _terminal(comparison: ModelComparison) -> str:
    from harness.show.comparison import comparison_to_text

    return comparison_to_text(comparison)


def _markdown(comparison: ModelComparison) -> str:
    from harness.show.comparison_markdown import comparison_to_markdown

    return comparison_to_markdown(comparison)


def _json(comparison: ModelComparison) -> str:
    from harness.show.comparison_data import comparison_to_json

    return comparison_to_json(comparison)


def _csv(comparison: ModelComparison) -> str:
    from harness.show.comparison_data import comparison_to_csv

    return comparison_to_csv(comparison)


COMPARISON_FORMATS = {
    "terminal": ComparisonFormat((".txt",), _terminal),
    "markdown": ComparisonFormat((".md", ".markdown"), _markdown),
    "json": ComparisonFormat((".json",), _json),
    "csv": ComparisonFormat((".csv",), _csv),
}


def comparison_format_for(name: str | None, output: Path | None) -> str:
    """Choose a format, as `harness.show.formats.format_for` does for tables."""
    return format_for(name, output, {known: form.endings for known, form in COMPARISON_FORMATS.items()})
