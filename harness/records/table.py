"""A leaderboard as a value: rows, columns, notes, ready to be drawn in any format."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from harness.words import short_length

if TYPE_CHECKING:
    from harness.records.record import Score
    from tasks.metrics import Unit

LARGE = 1e6  # from here on a number is written with its power of ten
REACH = "± is half the 95 % interval of the mean above it, which may be longer than what there is to 0 or 100"


@dataclass(frozen=True)
class Entry:
    """One cell as shown.

    Attributes:
        value: in the column's unit; shares in percent.
        low: lower end of the interval, if there is one.
        high: upper end.
        reach: of a mean of seeds that has an interval, half of it before it was cut to what a number can be.
        n: documents that were scored; None for a published figure.
        notes: numbers of notes.
        is_best: whether it is the best of its column and section; numbers that read the same share it.
        is_second: whether it is the next best of at least three.
        overlaps_best: whether its interval overlaps with that of the best, which it is not.
        score: as the record has it, in its own unit; None for a published figure and for an average.
        run_id: the run that it comes from; None likewise.
        protocol_hash: that run's.
    """

    value: float
    low: float | None = None
    high: float | None = None
    reach: float | None = None
    n: int | None = None
    notes: tuple[int, ...] = ()
    is_best: bool = False
    is_second: bool = False
    overlaps_best: bool = False
    score: Score | None = None
    run_id: str | None = None
    protocol_hash: str | None = None

    @property
    def mark(self) -> str | None:
        """`best`, `second` or None."""
        return "best" if self.is_best else "second" if self.is_second else None


@dataclass(frozen=True)
class Row:
    """One model.

    Attributes:
        name: of the model, as it is shown.
        section: the heading above it and its neighbours.
        entries: in the order of the columns, None where a cell was not run.
        notes: numbers of notes about the row as a whole.
        model: the name by which it was recorded or published.
        source: the paper and table of a published row; None for ours.
        training: the name of the training whose checkpoint it is; None where the name says no step.
        step: of that training.
        full: the name where its section is not said, if that is another: a checkpoint's with its training.
        recipe: the hash of what it was trained by, without the seed; None where no record says it.
        seed: of that training; None for the mean of several.
        of_mean: whether it is the mean of several seeds, or one of these.
        num_seeds: how many a mean is of; None for a row that is no mean.
    """

    name: str
    section: str
    entries: tuple[Entry | None, ...]
    notes: tuple[int, ...] = ()
    model: str = ""
    source: str | None = None
    training: str | None = None
    step: float | None = None
    full: str | None = None
    recipe: str | None = None
    seed: int | None = None
    of_mean: bool = False
    num_seeds: int | None = None

    @property
    def full_name(self) -> str:
        """What the model is called apart from its section."""
        return self.name if self.full is None else self.full

    @cached_property
    def shared_notes(self) -> tuple[int, ...]:
        """Numbers of notes about the row, or about each of its numbers."""
        of_numbers = [entry.notes for entry in self.entries if entry is not None]
        shared = set.intersection(*map(set, of_numbers)) if of_numbers else set()
        return tuple(sorted(shared | set(self.notes)))

    def notes_at(self, entry: Entry) -> tuple[int, ...]:
        """Numbers of notes that stand at a number of this row, because they are not about the whole row."""
        return tuple(number for number in entry.notes if number not in self.shared_notes)


@dataclass(frozen=True)
class Header:
    """A column.

    Attributes:
        group: the heading above `label`.
        label: what the column is called below it.
        decimals: of its numbers.
        higher_is_better: which way is better.
        key: its name for programs, such as `niah_single_1@1024`; no two columns have one.
        also: further names by which a person can mean it.
        unit: of its numbers as records have them; a share is shown in percent.
        task: whose numbers they are; None for an average.
        length: the task's, in tokens.
        metric: by which it is scored.
        average_of: the names of the columns that it is the mean of.
        tested: of a column of lengths, those that there are, ascending; a number below them is none.
    """

    group: str
    label: str
    decimals: int
    higher_is_better: bool
    key: str = ""
    also: tuple[str, ...] = ()
    unit: Unit = "share"
    task: str | None = None
    length: int | None = None
    metric: str | None = None
    average_of: tuple[str, ...] = ()
    tested: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The heading and the label in one line."""
        return f"{self.group} {self.label}"

    def number(self, value: float) -> str:
        """A value of this column as text; perplexities above ten lose decimals that nobody compares."""
        if self.tested:
            if value < self.tested[0]:
                return f"<{short_length(self.tested[0])}"
            return ("≥" if value >= self.tested[-1] else "") + short_length(int(value))
        if abs(value) >= LARGE:
            return f"{value:.2g}"
        if self.decimals == 2 and abs(value) >= 10:
            return f"{value:.{1 if abs(value) < 100 else 0}f}"
        text = f"{value:.{self.decimals}f}"
        return text if float(text) else text.lstrip("-")  # no zero is below another

    def reach(self, value: float) -> str:
        """Half of an interval as text; percentages from ten on without decimals."""
        return f"±{value:.0f}" if self.decimals == 1 and value >= 9.95 else f"±{self.number(value)}"

    def interval(self, low: float, high: float) -> str:
        """An interval as text; percentages without decimals."""
        if self.tested and low == high:
            return self.number(low)
        return f"{low:.0f}–{high:.0f}" if self.decimals == 1 else self.ends(low, high)

    def ends(self, low: float, high: float) -> str:
        """Two ends with their decimals, in one notation."""
        if not self.tested and max(abs(low), abs(high)) >= LARGE:
            return f"{low:.2g}–{high:.2g}"
        return f"{self.number(low)}–{self.number(high)}"


@dataclass(frozen=True)
class Section:
    """Rows below one heading.

    Attributes:
        title: the heading.
        notes: numbers of notes about each of its rows.
        rows: at least one.
    """

    title: str
    notes: tuple[int, ...]
    rows: tuple[Row, ...]

    def notes_at(self, row: Row) -> tuple[int, ...]:
        """Numbers of notes that stand at a row, because they are not about the whole section."""
        return tuple(number for number in row.shared_notes if number not in self.notes)


@dataclass
class Table:
    """A leaderboard, ready to be drawn.

    Attributes:
        title: its name.
        description: one sentence about it.
        headers: the columns.
        rows: the models, those of one section one after the other.
        notes: numbered from 1.
        overlaps: of each section, in how many columns the best is not apart from others by its interval.
        incomplete: models and the columns for want of which they have no average.
        explained: what columns say that no name of theirs says, one sentence each.
        passed: what was passed over, one sentence each.
        missing: a model and the tasks that it was not asked, for want of their rows in a package.
        unplaced: a model and what it was asked for this suite that is no column of it now.
    """

    title: str
    description: str
    headers: tuple[Header, ...]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    overlaps: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    explained: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unplaced: list[str] = field(default_factory=list)

    def note(self, text: str) -> int:
        """The number of a note; the same text is written once."""
        if text not in self.notes:
            self.notes.append(text)
        return self.notes.index(text) + 1

    @property
    def has_intervals(self) -> bool:
        """Whether any number has an interval."""
        return any(entry is not None and entry.low is not None for row in self.rows for entry in row.entries)

    @property
    def has_reaches(self) -> bool:
        """Whether any number is a mean of seeds with an interval over them."""
        return any(entry is not None and entry.reach is not None for row in self.rows for entry in row.entries)

    def sections(self) -> list[Section]:
        """The rows below their headings; a note about each of several rows is one of the section."""
        found: list[Section] = []
        for title in dict.fromkeys(row.section for row in self.rows):
            rows = tuple(row for row in self.rows if row.section == title)
            shared = set.intersection(*(set(row.shared_notes) for row in rows)) if len(rows) > 1 else set()
            found.append(Section(title, tuple(sorted(shared)), rows))
        return found

    def remarks(self) -> list[str]:
        """What is said below the numbered notes, one sentence each."""
        return [
            *self.overlaps,
            *self.explained,
            *(f"No average: {sentence}" for sentence in self.incomplete),
            *(f"Not run, no package has the rows: {sentence}" for sentence in self.missing),
            *(f"No column of this table: {sentence}" for sentence in self.unplaced),
            *(f"Passed over: {sentence}" for sentence in self.passed),
        ]

    def legend(self, reaches: bool = False) -> list[str]:
        """What marks, dashes and ± mean, of those that the table has.

        Args:
            reaches: whether ± stands below means of seeds that have an interval.
        """
        marks = {entry.mark for row in self.rows for entry in row.entries if entry is not None}
        best = "bold is the best of its group" + (", underlined the second" if "second" in marks else "")
        dash = any(entry is None for row in self.rows for entry in row.entries)
        said = [*([f"{best} (ties share)"] if "best" in marks else []), *(["— was not run"] if dash else [])]
        return [*said, REACH] if reaches and self.has_reaches else said
