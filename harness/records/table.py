"""A leaderboard as a value: rows, columns, notes, ready to be drawn in any format."""

from __future__ import annotations

from dataclasses import dataclass, field

LARGE = 1e6  # from here on a number is written with its power of ten


@dataclass(frozen=True)
class Entry:
    """One cell as shown.

    Attributes:
        value: in the column's unit; shares in percent.
        low: lower end of the interval, if there is one.
        high: upper end.
        n: documents that were scored; None for a published figure.
        notes: numbers of notes.
        is_best: whether it is the best of its column and section.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    notes: tuple[int, ...] = ()
    is_best: bool = False


@dataclass(frozen=True)
class Row:
    """One model.

    Attributes:
        name: of the model.
        section: the heading above it and its neighbours.
        entries: in the order of the columns, None where a cell was not run.
        section_note: the number of a note about the section.
    """

    name: str
    section: str
    entries: tuple[Entry | None, ...]
    section_note: int | None = None


@dataclass(frozen=True)
class Header:
    """A column: `group` is the heading above `label`; `decimals` and `higher_is_better` say how its numbers read."""

    group: str
    label: str
    decimals: int
    higher_is_better: bool

    def number(self, value: float) -> str:
        """A value of this column as text; perplexities above ten lose decimals that nobody compares."""
        if abs(value) >= LARGE:
            return f"{value:.2g}"
        if self.decimals == 2 and abs(value) >= 10:
            return f"{value:.{1 if abs(value) < 100 else 0}f}"
        return f"{value:.{self.decimals}f}"

    def interval(self, low: float, high: float) -> str:
        """An interval as text; percentages without decimals."""
        if self.decimals == 1:
            return f"{low:.0f}–{high:.0f}"
        return f"{self.number(low)}–{self.number(high)}"


@dataclass
class Table:
    """A leaderboard, ready to be drawn.

    Attributes:
        title: its name.
        description: one sentence about it.
        headers: the columns.
        rows: the models, those of one section one after the other.
        notes: numbered from 1.
        passed: what was passed over, one sentence each.
        missing: a model and the tasks that it was not asked, for want of their rows in a package.
    """

    title: str
    description: str
    headers: tuple[Header, ...]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def note(self, text: str) -> int:
        """The number of a note; the same text is written once."""
        if text not in self.notes:
            self.notes.append(text)
        return self.notes.index(text) + 1
