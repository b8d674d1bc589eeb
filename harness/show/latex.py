"""A leaderboard as a LaTeX table: booktabs only, any name as plain text, for pdfLaTeX of any age."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from harness.records.table import Entry, Header, Row, Table
from harness.show.intervals import Intervals, interval_parts
from harness.show.latex_text import latex, letters
from harness.show.parts import groups_of, shown_parts

ROOM = 112.0  # letters of a line across two columns of a paper, in the size of footnotes
APART = 1.5  # letters between two columns
LONGEST = 40  # letters of a name, beyond which it does not make the parts narrower
INTERVAL = 22  # letters of a number with its interval
LINES = 40  # printed lines of a float, which leave room for its caption on a page of any paper
GAP = 2  # lines that the rules of a tabular and the space around it take
NEARER = r"\noalign{\vskip-2pt}"
"""Before a line about the line above it."""
NOTE_ROOM = 135.0  # letters of a line of notes, which are smaller


@dataclass(frozen=True)
class _Tabular:
    """A tabular, and how many lines it prints."""

    text: str
    lines: int


@dataclass
class _Page:
    """What stands in one float."""

    tabulars: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lines: int = 0


def to_latex(table: Table, intervals: bool = False) -> str:
    r"""A `table*` for `\input`, in parts where it is too wide, with its notes below; several where it is too tall.

    Args:
        table: the leaderboard.
        intervals: whether a table of intervals follows; else those of means over seeds stand below them.
    """
    if not table.headers or not table.rows:
        return "% No results yet.\n"
    room = ROOM - min(max(letters(row.name) for row in table.rows), LONGEST)
    shown, absent = shown_parts(table, _widths(table), room)
    parts = [tabular for indices in shown for tabular in _part(table, indices, not intervals)]
    legend = "; ".join(table.legend(not intervals))
    lines = [*([f"{legend[0].upper()}{legend[1:]}."] if legend else []), *absent, *table.remarks()]
    notes = [(f"{_marks((number,))} {latex(note)}", letters(note)) for number, note in enumerate(table.notes, start=1)]
    caption = f"{latex(table.title)}: {latex(table.description)}" if table.description else latex(table.title)
    label = "tab:" + re.sub(r"[^a-z0-9]+", "-", table.title.lower()).strip("-")
    floats = _floats(caption, label, parts, [*notes, *((latex(line), letters(line)) for line in lines)])
    beside = ROOM - max(len(header.name) for header in table.headers)
    if intervals and (found := interval_parts(table, lambda name: max(letters(name), INTERVAL) + APART, beside)):
        tabulars = [tabular for part in found for tabular in _intervals(part)]
        floats += _floats(f"{caption}: {latex(found[0].caption())}", f"{label}-intervals", tabulars, [])
    return "% In the preamble: \\usepackage{booktabs}\n" + "\n".join(floats)


def _floats(caption: str, label: str, tabulars: Sequence[_Tabular], notes: Sequence[tuple[str, int]]) -> list[str]:
    """As few floats as pages need; notes are texts with the letters that they print, and stand below the last."""
    pages = [_Page()]
    for tabular in tabulars:
        if pages[-1].lines + tabular.lines > LINES and pages[-1].lines:
            pages.append(_Page())
        pages[-1].tabulars.append(tabular.text)
        pages[-1].lines += tabular.lines
    for text, printed in notes:
        needed = math.ceil(printed / NOTE_ROOM)
        if pages[-1].lines + needed > LINES and pages[-1].lines:
            pages.append(_Page())
        pages[-1].notes.append(text)
        pages[-1].lines += needed
    return [
        _float(
            caption + (f" ({number} of {len(pages)})" if len(pages) > 1 else ""),
            label + (f"-{number}" if number > 1 else ""),
            page.tabulars,
            page.notes,
        )
        for number, page in enumerate(pages, start=1)
    ]


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


def _part(table: Table, indices: Sequence[int], reaches: bool) -> Iterator[_Tabular]:
    """The tabulars of one part of the table: one unless it is too tall; below means their intervals, if asked for."""
    groups = groups_of(table.headers, indices)
    count = len(indices) + 1
    head = [
        " & ".join(["", *(rf"\multicolumn{{{len(below)}}}{{c}}{{{latex(group)}}}" for group, below in groups.items())])
        + r" \\"
    ]
    first, rules = 2, []
    for below in groups.values():
        rules.append(rf"\cmidrule(lr){{{first}-{first + len(below) - 1}}}")
        first += len(below)
    head += ["".join(rules), " & ".join(["", *(_label(table.headers[i]) for i in indices)]) + r" \\"]
    blocks = []
    for section in table.sections():
        rows = [row for row in section.rows if any(row.entries[i] is not None for i in indices)]
        if not rows:
            continue
        title = rf"\textit{{{latex(section.title)}}}{_marks(section.notes)}"
        written = []
        for row in rows:
            cells = [_cell(table.headers[i], row, row.entries[i]) for i in indices]
            line = " & ".join([latex(row.name) + _marks(section.notes_at(row)), *cells]) + r" \\"
            halves = [_reach(table.headers[i], row.entries[i]) if reaches else "" for i in indices]
            written.append(line + (f"\n{NEARER}" + " & ".join(["", *halves]) + r" \\" if any(halves) else ""))
        blocks.append(([r"\midrule", rf"\multicolumn{{{count}}}{{l}}{{{title}}} \\"], written))
    return _tabulars(len(indices), head, blocks)


def _tabulars(
    columns: int, head: Sequence[str], blocks: Iterable[tuple[Sequence[str], Sequence[str]]]
) -> Iterator[_Tabular]:
    """Tabulars of at most a page each.

    Args:
        columns: of numbers, behind that of names.
        head: lines that each begins with.
        blocks: lines of a title, and its rows, of a line or more each; a title is said again where its rows go on.
    """
    above = sum(line.endswith(r"\\") for line in head)
    body: list[str] = []
    used = above + GAP

    def whole() -> _Tabular:
        begin = [rf"\begin{{tabular}}{{l{'r' * columns}}}", r"\toprule"]
        return _Tabular("\n".join([*begin, *head, *body, r"\bottomrule", r"\end{tabular}"]), used)

    for title, rows in blocks:
        heading = sum(line.endswith(r"\\") for line in title)
        for place, row in enumerate(rows):
            starts, tall = place == 0, row.count("\n") + 1
            if used + tall + (heading if starts else 0) > LINES and body:
                yield whole()
                body, used, starts = [], above + GAP, True
            if starts:
                body += title
                used += heading
            body.append(row)
            used += tall
    if body:
        yield whole()


def _label(header: Header) -> str:
    return latex(header.label) + ("" if header.higher_is_better else r"~$\downarrow$")


def _cell(header: Header, row: Row, entry: Entry | None) -> str:
    return "---" if entry is None else _number(header, entry) + _marks(row.notes_at(entry))


def _reach(header: Header, entry: Entry | None) -> str:
    """Half of the interval of a mean of seeds, smaller than the mean."""
    return "" if entry is None or entry.reach is None else rf"\scriptsize {latex(header.reach(entry.reach))}"


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


def _intervals(part: Intervals) -> Iterator[_Tabular]:
    """The tabulars of a part of the table of intervals: one unless it is too tall."""
    head = [" & ".join(["", *(latex(row.full_name) for row in part.rows)]) + r" \\"]
    lines = []
    for header, entries in part.lines():
        cells = [
            "---" if entry is None else f"{_number(header, entry)} {latex(part.behind(header, entry))}".rstrip()
            for entry in entries
        ]
        lines.append(" & ".join([f"{latex(header.group)} {_label(header)}", *cells]) + r" \\")
    return _tabulars(len(part.rows), head, [([r"\midrule"], lines)])
