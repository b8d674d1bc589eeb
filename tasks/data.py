"""Read the staged data files. Knows their names and layouts; fetching them is the harness's work.

The folder is $GDN2_DATA, or ~/.cache/gdn2/data. Every reader raises DataNotStaged when its file is missing.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from basis.errors import FileError, UserError, reason
from tasks.errors import TaskError
from tasks.manifests import parse_manifest
from tasks.row_checks import check_rows

SOURCES_FILE = Path(__file__).with_name("sources.yaml")
MANIFEST_NAME = "manifest.json"
HELDOUT_ONE_IN = 50


class DataNotStaged(UserError, FileNotFoundError):
    """A data file is missing; the message names it and the command that fetches it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SquadItem:
    """One answerable SQuAD question with its paragraph; `answers` are distinct and in file order."""

    id: str
    title: str
    context: str
    question: str
    answers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class HotpotItem:
    """One HotpotQA question whose answer is words of its ten paragraphs, each with its title above it."""

    id: str
    question: str
    answer: str
    context: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Paragraph:
    """One Wikipedia paragraph."""

    title: str
    text: str


def data_dir() -> Path:
    """The folder of staged files: $GDN2_DATA, by default ~/.cache/gdn2/data. It need not exist."""
    return Path(os.environ.get("GDN2_DATA") or "~/.cache/gdn2/data").expanduser()


def tokenizer_dir(name: str) -> Path:
    """Where a tokenizer of the hub lies once it is staged; it need not exist."""
    return data_dir() / "tokenizers" / name.replace("/", "--")


def staged_tokenizers() -> list[str]:
    """The names of the staged tokenizers, sorted."""
    return sorted(folder.name.replace("--", "/", 1) for folder in tokenizer_dir("").glob("*"))


def path(name: str) -> Path:
    """The path of a staged file. Raises DataNotStaged when it is missing."""
    target = data_dir() / name
    if not target.is_file():
        entry = sources()["files"].get(name, {})
        only = " (from the hub: no package holds it)" if set(entry) & {"hub", "package"} == {"hub"} else ""
        raise DataNotStaged(f"{target} is not staged; run `python run_eval.py stage {target.stem}`{only}")
    return target


def read_manifest() -> dict[str, dict[str, Any]]:
    """Per staged file its source, url, bytes, sha256 and date; empty when there is no manifest.

    Raises:
        DataNotStaged: the manifest is damaged or holds something else.
    """
    file = data_dir() / MANIFEST_NAME
    if not file.exists():
        return {}
    try:
        return parse_manifest(file)
    except FileError as error:
        raise DataNotStaged(
            f"{error}; delete it and run `python run_eval.py stage`, which knows again what comes from the package "
            "(name other files to stage them anew)"
        ) from error


def unverified(names: Iterable[str]) -> list[str]:
    """The staged files among `names` whose bytes neither the manifest nor sources.yaml can vouch for."""
    manifest, declared = read_manifest(), sources()["files"]
    return [
        name
        for name in dict.fromkeys(names)
        if name not in manifest and declared.get(name, {}).get("sha256") != file_sha256(path(name))
    ]


def sources() -> dict[str, Any]:
    """The declared sources, as written in sources.yaml."""
    return copy.deepcopy(_sources())


def source_note(name: str, sha256: str) -> str | None:
    """What is to be known of a file with these bytes: that they are a package's in place of lm-eval's, and how."""
    entry = _sources()["files"].get(name, {})
    note: str | None = entry.get("package", {}).get("note")
    return note if sha256 == entry.get("sha256") else None


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_heldout(title: str) -> bool:
    """Whether a Wikipedia paragraph with this title belongs to evaluation: one title in 50, by hash."""
    return int(hashlib.sha256(title.encode()).hexdigest()[:8], 16) % HELDOUT_ONE_IN == 0


def essays_text() -> str:
    """The essay haystack as one string, as stored."""
    return _essays_text(path("essays.json"))


def squad_items() -> tuple[SquadItem, ...]:
    """All answerable SQuAD questions, in file order."""
    return _squad_items(path("squad.json"))


def hotpotqa_items() -> tuple[HotpotItem, ...]:
    """All HotpotQA questions that are not answered by yes or no, in file order."""
    return _hotpotqa_items(path("hotpotqa.json"))


def rows(name: str) -> tuple[dict[str, Any], ...]:
    """The rows of a staged data set, in its own order.

    Raises:
        DataNotStaged: the file is missing or damaged.
        TaskError: a row lacks a column that sources.yaml declares, or holds what no row of this data set can; names the
            file, what was expected and what was found.
    """
    declared = sources()["files"].get(name, {})
    return _rows(path(name), tuple(declared.get("columns", ())))


def check_columns(where: str, expected: Sequence[str], found: Iterable[str]) -> None:
    """Raise TaskError if a column is missing; there may be others."""
    present = list(found)
    if lacking := [name for name in expected if name not in present]:
        raise TaskError(
            f"{where}: the data set's columns changed: {', '.join(lacking)} missing; expected {', '.join(expected)}, "
            f"found {', '.join(present)}; stage a revision that has them, or mend `columns` in tasks/sources.yaml"
        )


def wiki_heldout() -> tuple[Paragraph, ...]:
    """The held-out Wikipedia paragraphs, sorted by title."""
    return _paragraphs(path("wiki_heldout.jsonl"))


@lru_cache(maxsize=1)
def _sources() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(SOURCES_FILE.read_text(encoding="utf-8"))
    return loaded


@lru_cache(maxsize=4)
def _essays_text(file: Path) -> str:
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("text"), str):
        raise DataNotStaged(f'{file} is not an object with the essays as "text"; run `python run_eval.py stage`')
    return str(content["text"])


@lru_cache(maxsize=4)
def _squad_items(file: Path) -> tuple[SquadItem, ...]:
    items: list[SquadItem] = []
    with _reading(file):
        for article in read_json(file)["data"]:
            for paragraph in article["paragraphs"]:
                for qa in paragraph["qas"]:
                    answers = tuple(dict.fromkeys(answer["text"] for answer in qa["answers"]))
                    if qa["is_impossible"] or not answers:
                        continue
                    items.append(
                        SquadItem(
                            id=qa["id"],
                            title=article["title"],
                            context=paragraph["context"],
                            question=qa["question"].strip(),
                            answers=answers,
                        )
                    )
    return tuple(items)


@lru_cache(maxsize=1)
def _hotpotqa_items(file: Path) -> tuple[HotpotItem, ...]:
    with _reading(file):
        return tuple(
            HotpotItem(
                id=item["_id"],
                question=item["question"].strip(),
                answer=item["answer"],
                context="\n".join(f"{title}\n{''.join(sentences).strip()}" for title, sentences in item["context"]),
            )
            for item in read_json(file)
            if item["answer"] not in ("yes", "no")
        )


@lru_cache(maxsize=4)
def _rows(file: Path, columns: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
    found: list[dict[str, Any]] = []
    with _reading(file), file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataNotStaged(
                    f"{file}, line {number}: damaged ({error}); run `python run_eval.py stage {file.stem}`"
                ) from error
            check_columns(f"{file}, line {number}", columns, row)
            found.append(row)
    check_rows(str(file), file.name, found)
    return tuple(found)


@lru_cache(maxsize=4)
def _paragraphs(file: Path) -> tuple[Paragraph, ...]:
    with _reading(file), file.open(encoding="utf-8") as lines:
        return tuple(Paragraph(**json.loads(line)) for line in lines)


def read_json(file: Path) -> Any:
    """The content of a JSON file. Raises DataNotStaged when it is damaged."""
    with _reading(file):
        return json.loads(file.read_text(encoding="utf-8"))


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Say which staged file is damaged or holds something else, whatever its content leads to."""
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        kind = type(error).__name__
        raise DataNotStaged(
            f"{file} is damaged ({kind}: {reason(error)}); run `python run_eval.py stage {file.stem}`"
        ) from error
