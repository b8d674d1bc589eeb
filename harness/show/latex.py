"""A leaderboard as a LaTeX table: booktabs only, any name as plain text, for pdfLaTeX of any age."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.records.table import Entry, Header, Row, Table
from harness.show.intervals import Intervals, interval_parts, name_of
from harness.show.latex_text import latex, letters
from harness.show.parts import groups_of, shown_parts

ROOM = 112.0  # letters of a line across two columns of a paper, in the size of footnotes
APART = 1.5  # letters between two columns
LONGEST = 40  # letters of a name, beyond which it does not make the parts narrower
INTERVAL = 22  # letters of a number with its interval


def to_latex(table: Table, intervals: bool = False) -> str:
    r"""A `table*` for `\input`, in parts where it is too wide, with its notes below.

    Args:
        table: the leaderboard.
        intervals: whether a table of intervals follows.
    """
    if not table.headers or not table.rows:
        return "% No results yet.\n"
    room = ROOM - min(max(letters(row.name) for row in table.rows), LONGEST)
    shown, absent = shown_parts(table, _widths(table), room)
    parts = [_part(table, indices) for indices in shown]
    legend = "; ".join(table.legend())
    lines = [*([f"{legend[0].upper()}{legend[1:]}."] if legend else []), *absent, *table.remarks()]
    notes = [f"{_marks((number,))} {latex(note)}" for number, note in enumerate(table.notes, start=1)]
    caption = f"{latex(table.title)}: {latex(table.description)}" if table.description else latex(table.title)
    label = "tab:" + re.sub(r"[^a-z0-9]+", "-", table.title.lower()).strip("-")
    said = [*notes, *map(latex, lines)]
    floats = [_float(caption, label, parts, said)]
    beside = ROOM - max(len(header.name) for header in table.headers)
    if intervals and (found := interval_parts(table, lambda name: max(letters(name), INTERVAL) + APART, beside)):
        tabulars = [_intervals(part) for part in found]
        floats.append(_float(f"{caption}: {latex(found[0].caption())}", f"{label}-intervals", tabulars, []))
    return "% In the preamble: \\usepackage{booktabs}\n" + "\n".join(floats)


def _float(caption: str, label: str, parts: Sequence[str], notes: Sequence[str]) -> str:
    """A float with its caption, its parts and its notes."""
    lines = [
        r"\begin{table*}",
        r"\centering",
        r"\footnotesize",
        r"\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{caption}}}",
        rf"\label{{{label}}}",
        r"\par\smallskip",
        "\n\\par\\medskip\n".join(parts),
    ]
    if notes:
        lines += [r"\par\smallskip", r"\parbox{\linewidth}{\scriptsize\raggedright", "\\\\\n".join(notes) + "}"]
    return "\n".join([*lines, r"\end{table*}", ""])


def _part(table: Table, indices: Sequence[int]) -> str:
    """The tabular of one part of the table."""
    groups = groups_of(table.headers, indices)
    count = len(indices) + 1
    lines = [rf"\begin{{tabular}}{{l{'r' * len(indices)}}}", r"\toprule"]
    lines.append(
        " & ".join(["", *(rf"\multicolumn{{{len(below)}}}{{c}}{{{latex(group)}}}" for group, below in groups.items())])
        + r" \\"
    )
    first, rules = 2, []
    for below in groups.values():
        rules.append(rf"\cmidrule(lr){{{first}-{first + len(below) - 1}}}")
        first += len(below)
    lines += ["".join(rules), " & ".join(["", *(_label(table.headers[i]) for i in indices)]) + r" \\"]
    for section in table.sections():
        rows = [row for row in section.rows if any(row.entries[i] is not None for i in indices)]
        if not rows:
            continue
        title = rf"\textit{{{latex(section.title)}}}{_marks(section.notes)}"
        lines += [r"\midrule", rf"\multicolumn{{{count}}}{{l}}{{{title}}} \\"]
        for row in rows:
            cells = [_cell(table.headers[i], row, row.entries[i]) for i in indices]
            lines.append(" & ".join([latex(row.name) + _marks(section.notes_at(row)), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _label(header: Header) -> str:
    return latex(header.label) + ("" if header.higher_is_better else r"~$\downarrow$")


def _cell(header: Header, row: Row, entry: Entry | None) -> str:
    return "---" if entry is None else _number(header, entry) + _marks(row.notes_at(entry))


def _number(header: Header, entry: Entry) -> str:
    text = header.number(entry.value)
    text = latex(text) if header.tested else text.replace("-", "$-$")
    return rf"\textbf{{{text}}}" if entry.is_best else rf"\underline{{{text}}}" if entry.is_second else text


def _marks(notes: Sequence[int]) -> str:
    return rf"\textsuperscript{{{','.join(map(str, notes))}}}" if notes else ""


def _widths(table: Table) -> list[float]:
    """The letters of each column with what is between two."""
    groups = groups_of(table.headers, range(len(table.headers)))
    widths = []
    for index, header in enumerate(table.headers):
        notes = max(len(row.notes_at(e)) if (e := row.entries[index]) else 0 for row in table.rows)
        share = len(header.group) / len(groups[header.group])
        widths.append(max(5.0 + notes, len(header.label), share) + APART)
    return widths


def _intervals(part: Intervals) -> str:
    """The tabular of a part of the table of intervals."""
    lines = [rf"\begin{{tabular}}{{l{'r' * len(part.rows)}}}", r"\toprule"]
    lines += [" & ".join(["", *(latex(name_of(row)) for row in part.rows)]) + r" \\", r"\midrule"]
    for header, entries in part.lines():
        cells = [
            "---" if entry is None else f"{_number(header, entry)} {latex(part.behind(header, entry))}".rstrip()
            for entry in entries
        ]
        lines.append(" & ".join([f"{latex(header.group)} {_label(header)}", *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])
