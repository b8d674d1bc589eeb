"""A leaderboard as one HTML file that needs nothing else: sortable, light and dark, names as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.records.table import Entry, Header, Row, Section, Table
from harness.show.parts import groups_of
from harness.show.plain import plain

TEMPLATE = Path(__file__).parent / "templates" / "leaderboard.html"


def to_html(table: Table) -> str:
    """The page; its template escapes every text."""
    from jinja2 import Environment, StrictUndefined

    options = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    made = Environment(undefined=StrictUndefined, **options)  # type: ignore[arg-type]
    page = made.from_string(TEMPLATE.read_text(encoding="utf-8"))
    groups = groups_of(table.headers, range(len(table.headers)))
    order = [index for below in groups.values() for index in below]
    legend = "; ".join(table.legend())
    return page.render(
        title=plain(table.title),
        description=plain(table.description),
        groups=[(plain(group), len(below)) for group, below in groups.items()],
        columns=[_column(table.headers[index], index == groups[table.headers[index].group][0]) for index in order],
        sections=[_section(table, section, order) for section in table.sections()],
        has_intervals=table.has_intervals,
        legend=f"{legend[:1].upper()}{legend[1:]}." if legend else "",
        notes=[plain(note) for note in table.notes],
        remarks=[plain(sentence) for sentence in table.remarks()],
    )


def _column(header: Header, is_first: bool) -> dict[str, Any]:
    """The heading of a column."""
    return {
        "label": plain(header.label),
        "name": plain(header.name),
        "higher": header.higher_is_better,
        "first": is_first,
    }


def _section(table: Table, section: Section, order: Sequence[int]) -> dict[str, Any]:
    rows = [
        {
            "name": plain(row.name),
            "notes": section.notes_at(row),
            "cells": [_cell(table.headers[index], row, row.entries[index]) for index in order],
        }
        for row in section.rows
    ]
    return {"title": plain(section.title), "notes": section.notes, "rows": rows}


def _cell(header: Header, row: Row, entry: Entry | None) -> dict[str, Any] | None:
    """One number: what it reads, what it is sorted by, its interval."""
    if entry is None:
        return None
    has_ends = entry.low is not None and entry.high is not None
    return {
        "text": header.number(entry.value),
        "value": repr(entry.value),
        "mark": entry.mark,
        "notes": row.notes_at(entry),
        "interval": header.interval(entry.low or 0.0, entry.high or 0.0) if has_ends else None,
        "n": None if entry.n is None else f"{entry.n:,}",
    }
