"""A leaderboard as GitHub Markdown."""

from __future__ import annotations

from harness.records.table import Entry, Header, Table
from harness.show.plain import markdown


def to_markdown(table: Table) -> str:
    """One table with its notes below; the best of a section is bold, a cell that was not run is —."""
    if not table.headers:
        return "No results yet.\n"
    titles = [f"{markdown(header.group)}<br>{_label(header)}" for header in table.headers]
    lines = [f"| model | {' | '.join(titles)} |", "| --- |" + " ---: |" * len(titles)]
    section = None
    for row in table.rows:
        if row.section != section:
            section = row.section
            mark = f" [{row.section_note}]" if row.section_note else ""
            lines.append(f"| *{markdown(section)}*{mark} |" + " |" * len(titles))
        cells = [_cell(header, entry) for header, entry in zip(table.headers, row.entries, strict=True)]
        lines.append(f"| {markdown(row.name)} | {' | '.join(cells)} |")
    notes = [f"[{number}] {markdown(note)}" for number, note in enumerate(table.notes, start=1)]
    notes += [f"Not run, no package has the rows: {markdown(sentence)}" for sentence in table.missing]
    notes += [f"Passed over: {markdown(sentence)}" for sentence in table.passed]
    legend = "Our cells: score, 95 % interval, number of documents; — was not run."
    return "\n".join([*lines, "", "  \n".join([legend, *notes])]) + "\n"


def _label(header: Header) -> str:
    return markdown(header.label) + ("" if header.higher_is_better else " ↓")


def _cell(header: Header, entry: Entry | None) -> str:
    if entry is None:
        return "—"
    value = header.number(entry.value)
    text = f"**{value}**" if entry.is_best else value
    text += "".join(f"[{number}]" for number in entry.notes)
    if entry.n is None:
        return text
    interval = "" if entry.low is None or entry.high is None else f"{header.interval(entry.low, entry.high)}, "
    return f"{text} <sub>{interval}n={entry.n}</sub>"
