"""Read the staged data files. Knows their names and layouts; fetching them is the harness's work.

The folder is $GDN2_DATA, or ~/.cache/gdn2/data. Every reader raises DataNotStaged when its file is missing.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

SOURCES_FILE = Path(__file__).with_name("sources.yaml")
MANIFEST_NAME = "manifest.json"
HELDOUT_ONE_IN = 50


class DataNotStaged(FileNotFoundError):
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
class Paragraph:
    """One Wikipedia paragraph."""

    title: str
    text: str


def data_dir() -> Path:
    """The folder of staged files: $GDN2_DATA, by default ~/.cache/gdn2/data. It need not exist."""
    return Path(os.environ.get("GDN2_DATA") or "~/.cache/gdn2/data").expanduser()


def path(name: str) -> Path:
    """The path of a staged file. Raises DataNotStaged when it is missing."""
    target = data_dir() / name
    if not target.is_file():
        raise DataNotStaged(f"{target} is not staged; run `python run_eval.py stage`")
    return target


def read_manifest() -> dict[str, dict[str, Any]]:
    """Per staged file its source, url, bytes, sha256 and date; empty when nothing was staged or it cannot be read."""
    try:
        files = json.loads((data_dir() / MANIFEST_NAME).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return files if isinstance(files, dict) else {}


def sources() -> dict[str, Any]:
    """The declared sources, as written in sources.yaml."""
    loaded: dict[str, Any] = yaml.safe_load(SOURCES_FILE.read_text(encoding="utf-8"))
    return loaded


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


def wiki_heldout() -> tuple[Paragraph, ...]:
    """The held-out Wikipedia paragraphs, sorted by title."""
    return _paragraphs(path("wiki_heldout.jsonl"))


@lru_cache(maxsize=4)
def _essays_text(file: Path) -> str:
    text: str = _read_json(file)["text"]
    return text


@lru_cache(maxsize=4)
def _squad_items(file: Path) -> tuple[SquadItem, ...]:
    items: list[SquadItem] = []
    for article in _read_json(file)["data"]:
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


@lru_cache(maxsize=4)
def _paragraphs(file: Path) -> tuple[Paragraph, ...]:
    with file.open(encoding="utf-8") as lines:
        return tuple(Paragraph(**json.loads(line)) for line in lines)


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataNotStaged(f"{file} is damaged ({error}); run `python run_eval.py stage`") from error
