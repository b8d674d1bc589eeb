"""Haystacks of YAML tasks: essays, repeated noise, false needles, or a text of one's own (a file or a hub data set)."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from basis.errors import FileError, reason
from basis.files import parse_json, split_lines
from basis.files import read_text as read_file
from basis.names import way_out
from tasks import data
from tasks.errors import TaskError
from tasks.problems import Problem, unknown_fields
from tasks.text import haystack
from tasks.text.kinds import Corpus

BUILT_IN = ("essay", "noise", "needle")
FILE_FIELDS, HUB_FIELDS = ("file", "field"), ("hub", "config", "split", "field", "revision")
TEXT_ENDINGS, TABLE_ENDINGS = (".txt", ".md"), (".jsonl", ".parquet")
MOST_CHARACTERS = 16_000_000
"""The most characters of a user's text; what comes behind them is not read into haystacks."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a haystack comes from, as written in YAML."""

    name: str
    """essay, noise, needle, file or hub."""
    file: Path | None = None
    field: str | None = None
    hub: str | None = None
    config: str | None = None
    split: str = "train"
    revision: str | None = None

    @property
    def staged(self) -> tuple[str, ...]:
        """Names of the staged files that it reads."""
        return ("essays.json",) if self.name == "essay" else ()

    def hashes(self) -> dict[str, str]:
        """SHA-256 of the text that it reads, if it is the user's own."""
        if self.file is not None:
            return {self.file.name: data.file_sha256(self.file)}
        if self.hub is not None:
            return {self.hub: hashlib.sha256(read_text(self).encode()).hexdigest()}
        return {}


class FalseNeedles:
    """Needles that nobody asks for, a line each."""

    joiner = "\n"

    def __init__(self, draw: Callable[[random.Random], str], rng: random.Random) -> None:
        self._draw = draw
        self._rng = rng
        self._drawn: list[list[str]] = []

    def pieces(self, unit: int) -> list[str]:
        """The words of a false needle, each with the separator before it."""
        while len(self._drawn) <= unit:
            # A UUID is many tokens: it may end after any of its groups.
            self._drawn.append(re.split(r"(?<=.)(?=[ -])", self.joiner + self._draw(self._rng), flags=re.DOTALL))
        return self._drawn[unit]


def parse_source(raw: Any, folder: Path) -> Source | list[Problem]:
    """A haystack as written in YAML, or what is wrong with it; reads no data."""
    if isinstance(raw, str):
        if raw in BUILT_IN:
            return Source(name=raw)
        return [
            Problem(
                (), f"no such haystack {raw!r}, nor a mapping such as {{file: notes.txt}}; {way_out(raw, BUILT_IN)}"
            )
        ]
    if not isinstance(raw, Mapping) or ("file" in raw) == ("hub" in raw):
        return [Problem((), f"must be one of {', '.join(BUILT_IN)}, or a mapping with 'file' or 'hub', got {raw!r}")]
    problems = unknown_fields(raw, FILE_FIELDS if "file" in raw else HUB_FIELDS)
    problems += [
        Problem((str(name),), f"must be text, got {value!r}") for name, value in raw.items() if type(value) is not str
    ]
    if problems:
        return problems
    if "hub" in raw:
        return Source(name="hub", **{"field": "text", **raw})
    return _parse_file(folder / raw["file"], raw.get("field"))


def _parse_file(file: Path, column: str | None) -> Source | list[Problem]:
    if file.suffix not in TEXT_ENDINGS + TABLE_ENDINGS:
        return [
            Problem(
                ("file",), f"{file.name or file}: the ending must be one of {', '.join(TEXT_ENDINGS + TABLE_ENDINGS)}"
            )
        ]
    try:
        if not file.exists():
            return [Problem(("file",), f"{file} does not exist; the path is relative to the task's YAML file")]
        if not file.is_file():
            return [Problem(("file",), f"{file} is no regular file; reading it may never end")]
        file.open("rb").close()
    except (OSError, ValueError) as error:
        return [Problem(("file",), f"{str(file)!r} cannot be read ({reason(error)})")]
    if file.suffix in TEXT_ENDINGS and column is not None:
        return [Problem(("field",), f"a {file.suffix} file has no fields; leave it out")]
    return Source(name="file", file=file, field=column or "text")


def load(source: Source) -> haystack.Haystack:
    """The haystack of a source other than `needle`.

    Raises:
        DataNotStaged: the essays are not staged.
        TaskError: a text that is empty or cannot be read, or a column that the data do not have.
    """
    if source.name == "noise":
        return haystack.load("noise")
    if source.name == "essay":
        return haystack.load("essay")
    return _own(source)


def load_corpus(source: Source) -> Corpus:
    """The text of a source, to be asked whether a value occurs in it."""
    return Corpus("") if source.name == "needle" else _corpus(source)


@lru_cache(maxsize=4)
def _corpus(source: Source) -> Corpus:
    return Corpus(" ".join(load(source).units))


@lru_cache(maxsize=4)
def _own(source: Source) -> haystack.Haystack:
    import punkt

    text = " ".join(read_text(source)[:MOST_CHARACTERS].split())
    units = tuple(punkt.sent_tokenize(text, line_breaks="ignore", prefixes=False))
    if not units:
        raise TaskError(f"haystack {source.file or source.hub}: holds no text").at("haystack")
    return haystack.Haystack(units=units, joiner=" ", lookalikes="")


@lru_cache(maxsize=4)
def read_text(source: Source) -> str:
    """The text of a file or of a hub data set, rows joined by newlines. Raises TaskError."""
    if source.file is None:
        return "\n".join(_hub_rows(source))
    file = source.file
    try:
        if file.suffix in TEXT_ENDINGS:
            return read_file(file)
        return "\n".join(_json_rows(source, file) if file.suffix == ".jsonl" else _parquet_rows(source, file))
    except FileError as error:
        raise TaskError(f"haystack {error}").at("haystack", "file") from error
    except OSError as error:
        raise TaskError(f"haystack {file}: cannot be read ({reason(error)})").at("haystack", "file") from error


def _json_rows(source: Source, file: Path) -> list[str]:
    rows = []
    for number, line in enumerate(split_lines(read_file(file)), start=1):
        if not line.strip():
            continue
        row = parse_json(line, str(file), number)
        if not isinstance(row, dict) or source.field not in row:
            raise _no_column(source, f"{file}:{number}", row if isinstance(row, dict) else ())
        rows.append(_text(row[source.field], source, f"{file}:{number}"))
    return rows


def _parquet_rows(source: Source, file: Path) -> list[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
        if source.field not in table.schema_arrow.names:
            raise _no_column(source, str(file), table.schema_arrow.names)
        values = table.read([source.field])[source.field].to_pylist()
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise TaskError(f"haystack {file}: not a parquet file that can be read ({reason(error)})").at(
            "haystack", "file"
        ) from error
    return [_text(value, source, str(file)) for value in values]


def _hub_rows(source: Source) -> list[str]:
    import datasets

    try:
        rows = datasets.load_dataset(source.hub, source.config, split=source.split, revision=source.revision)
    except Exception as error:  # what the hub's client raises is not one family of errors
        raise TaskError(
            f"haystack {source.hub}: cannot be loaded ({' '.join(str(error).split())[:200]}); without a network it "
            "must lie in the cache of datasets, or use {file: ...}"
        ).at("haystack", "hub") from error
    if source.field not in rows.column_names:
        raise _no_column(source, str(source.hub), rows.column_names)
    return [_text(value, source, str(source.hub)) for value in rows[source.field]]


def _no_column(source: Source, where: str, columns: Any) -> TaskError:
    names = list(columns)
    hint = way_out(source.field, names) if names else "not a row"
    return TaskError(
        f"haystack {where}: no column {source.field!r}; {hint}; name the column with the text: "
        "haystack: {file: ..., field: NAME}"
    ).at("haystack", "field")


def _text(value: Any, source: Source, where: str) -> str:
    if not isinstance(value, str):
        raise TaskError(f"haystack {where}: column {source.field!r} must hold text, got {type(value).__name__}").at(
            "haystack", "field"
        )
    return value
