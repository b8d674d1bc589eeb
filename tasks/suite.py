"""Suites: a YAML that names tasks and a protocol, and is a table: its columns are the table's columns.

`columns` is the grid: an entry with `lengths` makes one column a length. `averages` are means of named columns,
shown behind them; `published` names the tables of papers whose rows are shown below ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from basis.errors import FileError
from basis.names import must_be_one_of, way_out
from tasks import catalog, own
from tasks.errors import TaskError
from tasks.info import ResolvedTask
from tasks.limits import number_problem
from tasks.located import Trail, locate
from tasks.ruler.generators import check_generator
from tasks.task_files import ROOT, load_yaml
from tasks.text.tokenizers import CONTEXT_PREFIXES

FOLDER = ROOT / "suites"


@dataclass(frozen=True, kw_only=True, slots=True)
class SuiteProtocol:
    """What a suite fixes for all its columns."""

    context_prefix: str = "tokenizer"
    seed: int = 42
    max_length: int | None = None
    """Tokens of a request and of a window of perplexity; None: as long as a task asks for."""
    shots: int = 0
    """Solved examples in front of a question, of columns that do not say otherwise."""
    generator: str | None = None
    """Of RULER's tasks; None: `exact`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of the table: one task at one length by one metric."""

    task: str
    """A name, or in the suite's YAML the path of a task's file, relative to the suite's."""
    metric: str
    label: str
    group: str
    """The heading above the labels of neighbouring columns."""
    length: int | None = None
    samples: int | None = None
    """None: the task's default."""
    shots: int | None = None
    """Solved examples in front of a question; None: the protocol's."""
    name: str | None = None
    """What averages and the papers' tables call this column."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Average:
    """A column that is the mean of others, for a row that has them all."""

    label: str
    group: str
    of: tuple[str, ...]
    """Names of columns."""
    name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """The papers' rows of a suite."""

    tables: tuple[str, ...]
    """`file.table` of results/published; its columns are matched by name, or by task and length."""
    note: str
    """What keeps these figures from being compared with ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """A checked suite."""

    name: str
    description: str
    protocol: SuiteProtocol
    columns: tuple[Column, ...]
    file: Path
    averages: tuple[Average, ...] = ()
    published: Published | None = None
    effective_length: float | None = None
    """Percent that the mean of the tasks must exceed; then the table has the length up to which it does."""
    apart: bool = False  # whether its table has its own runs alone, and other tables have these only by name

    def resolve(self, samples: int | None = None) -> list[ResolvedTask]:
        """The tasks to run, each once, in column order; `samples` overrides every column's number."""
        tasks: dict[str, ResolvedTask] = {}
        for column in self.columns:
            task = resolve_column(column, self.protocol, samples)
            tasks.setdefault(task.lm_eval_name, task)
        return list(tasks.values())


Record = TypeVar("Record", SuiteProtocol, Column, Average, Published)
FIELDS = ("suite", "description", "protocol", "columns", "averages", "published", "effective_length", "apart")


def resolve_column(column: Column, protocol: SuiteProtocol, samples: int | None = None) -> ResolvedTask:
    """The task behind a column."""
    samples = column.samples if samples is None else samples
    shots = protocol.shots if column.shots is None else column.shots
    return catalog.resolve(column.task, column.length, samples, protocol.seed, protocol.generator, shots)


def suite_names() -> list[str]:
    """The names of the shipped suites, sorted; none is read."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def list_suites() -> list[Suite]:
    """The shipped suites, sorted by name."""
    return [_read(file) for file in sorted(FOLDER.glob("*.yaml"))]


def load_suite(name_or_path: str | Path) -> Suite:
    """A shipped suite by name, or any suite by the path of its YAML.

    Raises:
        TaskError: unknown name, or an unknown, missing or bad field; the message names file and field.
    """
    text = str(name_or_path)
    if text.endswith((".yaml", ".yml")):
        return _read_own(Path(text))
    file = FOLDER / f"{text}.yaml"
    if not file.is_file():
        raise TaskError(f"unknown suite {text!r}, neither a name nor a path of YAML; {way_out(text, suite_names())}")
    return _read(file)


def _read_own(file: Path) -> Suite:
    """A suite of the user's own: its mistakes with line and column, and no field twice."""
    try:
        located = locate(file)
    except FileError as error:
        raise TaskError(str(error)) from error
    try:
        return _read(file)
    except TaskError as error:
        message = str(error).removeprefix(f"{file}: ")
        if message == str(error):
            raise
        raise TaskError(f"{located.where(_trail(message))}: {message}") from error


def _trail(message: str) -> Trail:
    """The field that a message of this module is about: `columns[2]: unknown field 'metrc'; …`."""
    place = re.match(r"(\w+)(?:\[(\d+)\])?: ", message)
    field = re.search(r"field '(\w+)'|task '|metric '|: (\w+) must be", message)
    trail: Trail = (place[1], *([int(place[2])] if place[2] else [])) if place else ()
    name = next((group for group in field.groups() if group), None) if field else None
    return (*trail, name) if name else trail


def _read(file: Path) -> Suite:
    raw = load_yaml(file)
    for field in raw:
        if field not in FIELDS:
            raise TaskError(f"{file}: unknown field {field!r}; {way_out(field, FIELDS)}")
    for field in ("suite", "columns"):
        if not raw.get(field):
            raise TaskError(f"{file}: field {field!r} is missing or empty")
    for field in ("suite", "description"):
        if not isinstance(raw.get(field, ""), str):
            raise TaskError(f"{file}: field {field!r} must be text, got {raw[field]!r}")
    protocol = _record(SuiteProtocol, raw.get("protocol", {}), f"{file}: protocol")
    if protocol.context_prefix not in CONTEXT_PREFIXES:
        raise TaskError(f"{file}: protocol: context_prefix {must_be_one_of(CONTEXT_PREFIXES, protocol.context_prefix)}")
    if protocol.generator is not None:
        check_generator(protocol.generator, f"{file}: protocol")
    for field in ("seed", "shots", "max_length"):
        value = getattr(protocol, field)
        if value is not None and (problem := number_problem(field, value)):
            raise TaskError(f"{file}: protocol: {field} {problem}")
    threshold = raw.get("effective_length")
    if threshold is not None and (type(threshold) not in (int, float) or not 0 < threshold < 100):
        raise TaskError(f"{file}: field 'effective_length' must be percent above 0 and below 100, got {threshold!r}")
    if type(raw.get("apart", False)) is not bool:
        raise TaskError(f"{file}: field 'apart' must be true or false, got {raw['apart']!r}")
    places, columns = [], []
    for index, listed in enumerate(_list(raw, "columns", file)):
        place = f"{file}: columns[{index}]"
        found = [_column(entry, protocol, place, file.parent) for entry in _lengths(listed, place)]
        places += [place] * len(found)
        columns += found
    _check_columns(columns, places, file)
    averages = tuple(
        _average(entry, tuple(columns), f"{file}: averages[{index}]")
        for index, entry in enumerate(_list(raw, "averages", file))
    )
    return Suite(
        name=str(raw["suite"]),
        description=str(raw.get("description", "")),
        protocol=protocol,
        columns=tuple(columns),
        file=file,
        averages=averages,
        published=_record(Published, raw["published"], f"{file}: published") if "published" in raw else None,
        effective_length=threshold,
        apart=raw.get("apart", False),
    )


def _list(raw: Mapping[str, Any], field: str, file: Path) -> list[Any]:
    entries = raw.get(field, [])
    if not isinstance(entries, list):
        raise TaskError(f"{file}: field {field!r} must be a list")
    return entries


def _lengths(entry: Any, where: str) -> list[Any]:
    """An entry with `lengths` as one entry a length, labelled 1K, 2K and so on."""
    if not isinstance(entry, Mapping) or "lengths" not in entry:
        return [entry]
    lengths = entry["lengths"]
    if not isinstance(lengths, list) or not lengths or any(type(length) is not int for length in lengths):
        raise TaskError(f"{where}: field 'lengths' must be a list of whole numbers, got {lengths!r}")
    if both := sorted({"length", "label", "name"} & set(entry)):
        raise TaskError(f"{where}: field {both[0]!r} cannot be given beside 'lengths', which makes one column a length")
    rest = {field: value for field, value in entry.items() if field != "lengths"}
    return [{**rest, "length": length, "label": short_length(length)} for length in lengths]


def short_length(length: int) -> str:
    """`1K` for 1024; `700` for what is no multiple of it."""
    return f"{length // 1024}K" if length % 1024 == 0 else str(length)


def _average(entry: Any, columns: tuple[Column, ...], where: str) -> Average:
    average = _record(Average, entry, where)
    names = [column.name for column in columns if column.name is not None]
    for name in average.of:
        if name not in names:
            raise TaskError(f"{where}: no column is called {name!r}; {way_out(name, names)}")
    return average


def _column(entry: Any, protocol: SuiteProtocol, where: str, folder: Path) -> Column:
    column = _record(Column, entry, where)
    try:
        if own.is_file_name(column.task):
            column = replace(column, task=own.find(column.task, folder)[0].name)
        task = resolve_column(column, protocol)
    except TaskError as error:
        raise TaskError(f"{where}: {error}") from error
    if column.metric not in task.metrics:
        raise TaskError(f"{where}: unknown metric {column.metric!r}; {way_out(column.metric, task.metrics)}")
    return column


def _check_columns(columns: Sequence[Column], places: Sequence[str], file: Path) -> None:
    asked: dict[tuple[str, int | None], Column] = {}
    names = [column.name for column in columns if column.name is not None]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise TaskError(f"{file}: two columns are called {twice!r}")
    seen: set[tuple[str, int | None, str]] = set()
    for place, column in zip(places, columns, strict=True):
        cell = (column.task, column.length)
        if (*cell, column.metric) in seen:
            raise TaskError(f"{place}: {column.task} with {column.metric} is listed twice")
        seen.add((*cell, column.metric))
        for field in ("samples", "shots"):
            if getattr(asked.setdefault(cell, column), field) != getattr(column, field):
                raise TaskError(f"{place}: {field} of {column.task} differ between two columns")


def _record(kind: type[Record], raw: Any, where: str) -> Record:
    """A dataclass from a mapping: unknown, missing and mistyped fields are errors that name the field."""
    if not isinstance(raw, Mapping):
        raise TaskError(f"{where}: must be a mapping of fields, got {raw!r}")
    known = {field.name: field for field in fields(kind)}
    for name, value in raw.items():
        if name not in known:
            raise TaskError(f"{where}: unknown field {name!r}; {way_out(name, known)}")
        kind_of_value = str(known[name].type)
        if "tuple" in kind_of_value:
            if not isinstance(value, list) or not value or any(not isinstance(item, str) for item in value):
                raise TaskError(f"{where}: field {name!r} must be a list of texts, got {value!r}")
            continue
        wanted = int if "int" in kind_of_value else str
        if type(value) is not wanted and not (value is None and "None" in kind_of_value):
            shape = "a whole number" if wanted is int else 'text (quote it: "512")'
            raise TaskError(f"{where}: field {name!r} must be {shape}, got {value!r}")
    if lacking := [name for name, field in known.items() if field.default is MISSING and name not in raw]:
        raise TaskError(f"{where}: field {lacking[0]!r} is missing")
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    return kind(**values)
