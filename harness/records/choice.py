"""Which number a table shows: one of the suite's own protocol first, then one of more samples, then the newest.

The suite's protocol is what `run --suite` would use here and now. What neither the suite nor this machine fixes (the
tokenizer, data that are not staged, the window of a text without a length) is what most runs of the model have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from harness.records.added import UNKNOWN, Added
from harness.records.apart import takes
from harness.records.cells import task_protocol
from harness.records.columns import AddedColumn, TableColumn
from harness.records.protocol import Protocol, TaskProtocol, package_versions
from harness.records.record import Cell, RunRecord, Score
from harness.words import counted
from tasks.registry import Suite

DTYPE = "float32"  # of a column: a run in another, which a GPU may have chosen by itself, is marked
KEYS = ("name", "length", "samples", "data", "max_length")  # of a task's protocol: compared below, or not at all
RUN_KEYS = ("suite", "tasks", "context_prefix", "dtype", "tokenizer_sha256", "lm_eval", "further_end_ids")
SAID = {
    "seed": "seed {have} instead of {want}",
    "version": "task version {have:g} instead of {want:g}",
    "generator": "generator {have} instead of {want}",
    "shots": "{have} solved examples instead of {want}",
    "spec": "another definition of {name} ({have}) than in its file now",
    "stops_at_references": "generations that end when every reference has appeared",
    "context_prefix": "context prefix {have} instead of {want}",
    "dtype": "{have} instead of {want}",
    "lm_eval": "lm-eval {have} instead of {want}",
}


@dataclass(frozen=True)
class Candidate:
    """A number that a column could show.

    Attributes:
        run: the run that it comes from.
        cell: the run's cell.
        score: by the column's metric.
        differences: what is not as in the suite's protocol.
    """

    run: RunRecord
    cell: Cell
    score: Score
    differences: tuple[str, ...]

    @property
    def rank(self) -> tuple[bool, int, str]:
        """The rule: the suite's own protocol, then more samples, then newer."""
        return not self.differences, self.score.n, self.run.started


@dataclass(frozen=True)
class Choice:
    """What one cell of a table shows, and what it passes over."""

    shown: Candidate
    passed: tuple[Candidate, ...]


def choose(suite: Suite, column: TableColumn, runs: Sequence[RunRecord]) -> Choice | None:
    """Choose among the runs of one model; None where none has this column.

    A suite that stands apart has its own runs alone (`harness.records.apart`).
    """
    runs = [run for run in runs if takes(suite, run)]
    found = [(run, cell, score) for run in runs for cell in run.cells if (score := score_of(cell, column)) is not None]
    if not found:
        return None
    wanted = _Wanted.of(suite, column, [(run, cell) for run, cell, _ in found])
    candidates = [Candidate(run, cell, score, tuple(wanted.differences(run, cell))) for run, cell, score in found]
    shown = max(candidates, key=lambda candidate: candidate.rank)
    return Choice(shown, tuple(candidate for candidate in candidates if candidate is not shown))


def reason_against(candidate: Candidate, shown: Candidate) -> str:
    """Why a number was passed over for another."""
    if candidate.differences and not shown.differences:
        return "; ".join(candidate.differences)
    if candidate.score.n != shown.score.n:
        return f"{counted(candidate.score.n, 'sample')}, shown are {shown.score.n:,}"
    age = "older" if candidate.run.started < shown.run.started else "begun in the same second"
    return "; ".join((age, *candidate.differences))


def difference_in_words(name: str, have: Any, want: Any, task: str) -> str | None:
    """Say how a field of a protocol differs.

    Args:
        name: of the field.
        have: its value.
        want: what it is compared with.
        task: the name of the task.

    Returns:
        The difference in words; None where there is none, or where an old record does not say.
    """
    if have == want or (name == "generator" and have is None):
        return None
    return SAID.get(name, "{field} {have} instead of {want}").format(field=name, have=have, want=want, name=task)


def score_of(cell: Cell, column: TableColumn) -> Score | None:
    """The number of a cell that belongs to a column; None where it is of another, or of no document."""
    score = cell.scores.get(column.column.metric)
    fits = (cell.protocol.name, cell.protocol.length) == column.cell
    return score if fits and score is not None and score.n else None


@dataclass(frozen=True)
class _Wanted:
    """The suite's protocol of one column, for the runs of one model; `is_theirs` where only lm-eval knows its task."""

    task: TaskProtocol
    run: Mapping[str, Any]
    tokenizer: str | None
    end_ids: tuple[int, ...]
    has_window: bool
    is_theirs: bool = False

    @staticmethod
    def of(suite: Suite, column: TableColumn, found: Sequence[tuple[RunRecord, Cell]]) -> _Wanted:
        task, known = column.task, column.known_data
        here = {"context_prefix": suite.protocol.context_prefix, "dtype": DTYPE, "lm_eval": _lm_eval()}
        if task is None or isinstance(column.column, AddedColumn):
            first = column.column.cell if isinstance(column.column, AddedColumn) else found[0][1]
            return _Wanted(first.protocol, here, None, (), has_window=False, is_theirs=True)
        found = sorted(found, key=lambda pair: pair[0].started)
        window = suite.protocol.max_length or task.max_length
        if not window:  # a text without a length, in the window of the model's configuration
            window = _most_common(cell.protocol.max_length for run, cell in found if not _given(run, "--max-l")) or 1
        read = [cell.protocol.data or {} for _, cell in found]
        data = {
            name: known.get(name) or _most_common(data.get(name) for data in read)
            for name in dict.fromkeys(name for data in read for name in data)
        }
        own = [run for run, _ in found if _has_own_tokenizer(run)]
        return _Wanted(
            task_protocol(task, window, {name: sha for name, sha in data.items() if sha is not None}),
            here,
            _most_common(run.protocol.tokenizer_sha256 for run in own),
            _most_common(run.protocol.further_end_ids for run, _ in found),
            suite.protocol.max_length is not None,
        )

    def differences(self, run: RunRecord, cell: Cell) -> list[str]:
        """What a cell's protocol says otherwise, field by field."""
        if run.added is not None:
            return self._of_added(run.added, run, cell)
        if self.is_theirs:
            return [f"not lm-eval's {self.task.name}, but a task of that name whose definition is not here any more"]
        said = [
            difference_in_words(
                item.name, getattr(cell.protocol, item.name), getattr(self.task, item.name), self.task.name
            )
            for item in fields(TaskProtocol)
            if item.name not in KEYS
        ]
        have = {"context_prefix": cell.context_prefix, "dtype": run.protocol.dtype, "lm_eval": run.protocol.lm_eval}
        said += [difference_in_words(name, have[name], self.run[name], self.task.name) for name in have]
        said += [
            difference_in_words(item.name, getattr(run.protocol, item.name), item.default, self.task.name)
            for item in fields(Protocol)
            if item.name not in RUN_KEYS
        ]
        said += [self._window(cell), self._tokenizer(run), self._ends(run), self._data(cell)]
        return [text for text in said if text is not None]

    def _of_added(self, added: Added, run: RunRecord, cell: Cell) -> list[str]:
        """Where a number comes from that was added, and what little its file says otherwise."""
        have = {"generator": cell.protocol.generator, "shots": cell.protocol.shots, "dtype": run.protocol.dtype}
        want = {"generator": self.task.generator, "shots": self.task.shots, "dtype": self.run["dtype"]}
        known = [name for name in have if have[name] not in (None, UNKNOWN)]
        said = [difference_in_words(name, have[name], want[name], self.task.name) for name in known]
        return [added.remark, *(text for text in said if text is not None)]

    def _window(self, cell: Cell) -> str | None:
        """A window that the suite or a text fixes is compared; a task with a length only needs room for it."""
        have, want = cell.protocol.max_length, self.task.max_length
        is_free = self.task.length is not None and (have or 0) >= (want or 0) and not self.has_window
        return None if have == want or is_free else f"window of {have} tokens instead of {want}"

    def _tokenizer(self, run: RunRecord) -> str | None:
        have = run.protocol.tokenizer_sha256
        return None if have == self.tokenizer else f"another tokenizer ({have[:8]}) than the checkpoint's own"

    def _ends(self, run: RunRecord) -> str | None:
        have = run.protocol.further_end_ids
        return None if have == self.end_ids else f"other ends of text ({', '.join(map(str, have)) or 'none'})"

    def _data(self, cell: Cell) -> str | None:
        have, want = cell.protocol.data or {}, self.task.data or {}
        other = [name for name in sorted({*have, *want}) if have.get(name) != want.get(name)]
        return f"other data ({', '.join(other)})" if other else None


def _most_common(values: Iterable[Any]) -> Any:
    """The value that most have, of several the first; None where nobody has any."""
    counted = Counter(value for value in values if value is not None)
    return counted.most_common(1)[0][0] if counted else None


def _has_own_tokenizer(run: RunRecord) -> bool:
    """Whether it used the checkpoint's tokenizer; old records say it by their command only."""
    said = run.model.own_tokenizer
    return not _given(run, "--to") if said is None else said


def _given(run: RunRecord, option: str) -> bool:
    """Whether an option was typed, given by the shortest beginning that names it."""
    return any(argument.startswith(option) for argument in run.command)


@lru_cache(maxsize=1)
def _lm_eval() -> str:
    return package_versions()["lm_eval"]
