"""Suites: a YAML that names tasks and a protocol, and is a table: its columns are the table's columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from tasks import catalog
from tasks.errors import TaskError
from tasks.tokenizers import CONTEXT_PREFIXES

FOLDER = catalog.ROOT / "suites"


@dataclass(frozen=True, kw_only=True, slots=True)
class SuiteProtocol:
    """What a suite fixes for all its columns."""

    context_prefix: str = "tokenizer"
    seed: int = 42


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of the table: one task at one length by one metric."""

    task: str
    metric: str
    label: str
    group: str
    """What stands above the labels of neighbouring columns."""
    length: int | None = None
    samples: int | None = None
    """None: the task's default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """A checked suite."""

    name: str
    description: str
    protocol: SuiteProtocol
    columns: tuple[Column, ...]
    file: Path

    def resolve(self, samples: int | None = None) -> list[catalog.ResolvedTask]:
        """The tasks to run, each once, in column order; `samples` overrides every column's number."""
        tasks: dict[str, catalog.ResolvedTask] = {}
        for column in self.columns:
            task = resolve_column(column, self.protocol, samples)
            tasks.setdefault(task.lm_eval_name, task)
        return list(tasks.values())


Record = TypeVar("Record", SuiteProtocol, Column)


def resolve_column(column: Column, protocol: SuiteProtocol, samples: int | None = None) -> catalog.ResolvedTask:
    """The task behind a column."""
    return catalog.resolve(column.task, column.length, column.samples if samples is None else samples, protocol.seed)


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
        return _read(Path(text))
    file = FOLDER / f"{text}.yaml"
    if not file.is_file():
        names = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise TaskError(f"unknown suite {text!r}: choose from {names}, or give the path of a YAML file")
    return _read(file)


def _read(file: Path) -> Suite:
    raw = catalog.load_yaml(file)
    for field in raw:
        if field not in ("suite", "description", "protocol", "columns"):
            raise TaskError(f"{file}: unknown field {field!r}; known: suite, description, protocol, columns")
    for field in ("suite", "columns"):
        if not raw.get(field):
            raise TaskError(f"{file}: field {field!r} is missing or empty")
    protocol = _record(SuiteProtocol, raw.get("protocol", {}), f"{file}: protocol")
    if protocol.context_prefix not in CONTEXT_PREFIXES:
        raise TaskError(f"{file}: protocol: context_prefix must be one of {', '.join(CONTEXT_PREFIXES)}")
    if not isinstance(raw["columns"], list):
        raise TaskError(f"{file}: field 'columns' must be a list")
    columns = tuple(_column(entry, protocol, f"{file}: columns[{index}]") for index, entry in enumerate(raw["columns"]))
    _check_columns(columns, file)
    return Suite(
        name=str(raw["suite"]),
        description=str(raw.get("description", "")),
        protocol=protocol,
        columns=columns,
        file=file,
    )


def _column(entry: Any, protocol: SuiteProtocol, where: str) -> Column:
    column = _record(Column, entry, where)
    try:
        task = resolve_column(column, protocol)
    except TaskError as error:
        raise TaskError(f"{where}: {error}") from error
    if column.metric not in task.info.metrics:
        raise TaskError(f"{where}: metric {column.metric!r} is not one of {', '.join(task.info.metrics)}")
    return column


def _check_columns(columns: tuple[Column, ...], file: Path) -> None:
    samples: dict[tuple[str, int | None], int | None] = {}
    seen: set[tuple[str, int | None, str]] = set()
    for index, column in enumerate(columns):
        cell = (column.task, column.length)
        if (*cell, column.metric) in seen:
            raise TaskError(f"{file}: columns[{index}]: {column.task} with {column.metric} stands there twice")
        seen.add((*cell, column.metric))
        if samples.setdefault(cell, column.samples) != column.samples:
            raise TaskError(f"{file}: columns[{index}]: samples of {column.task} differ between two columns")


def _record(kind: type[Record], raw: Any, where: str) -> Record:
    """A dataclass from a mapping: unknown, missing and mistyped fields are errors that name the field."""
    if not isinstance(raw, Mapping):
        raise TaskError(f"{where}: must be a mapping of fields, got {raw!r}")
    known = {field.name: field for field in fields(kind)}
    for name, value in raw.items():
        if name not in known:
            raise TaskError(f"{where}: unknown field {name!r}; known: {', '.join(known)}")
        wanted = int if "int" in str(known[name].type) else str
        optional = "None" in str(known[name].type)
        if type(value) is not wanted and not (value is None and optional):
            shape = "a whole number" if wanted is int else 'text (quote it: "512")'
            raise TaskError(f"{where}: field {name!r} must be {shape}, got {value!r}")
    for name, field in known.items():
        if field.default is MISSING and name not in raw:
            raise TaskError(f"{where}: field {name!r} is missing")
    return kind(**raw)
