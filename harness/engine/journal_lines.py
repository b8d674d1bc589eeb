"""The lines of a journal: written with a checksum, read back as far as they are whole and of a kind that is known."""

from __future__ import annotations

import json
import math
import re
import zlib
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Result = tuple[float, bool] | list[int]
"""What a request gave: a log-probability and whether it was the argmax throughout, or generated ids."""
Kept: TypeAlias = "tuple[float, bool] | array[int]"
"""The same in memory, where ids take 8 bytes each; in a list they take 40."""

BEGINNING = re.compile(rb"[0-9a-f]{8} [\[{]")


@dataclass(slots=True)
class Contents:
    """What a journal holds.

    Attributes:
        headers: the entries that say whose the others are.
        results: by the key of their request.
        spent: seconds, by what they were spent on.
        damaged: lines that are not whole, or whole and of no known kind.
        size: bytes up to the end of the last line that has one.
        is_foreign: whether something is there, but nothing that says whose it is.
    """

    headers: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, Kept] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)
    damaged: int = 0
    size: int = 0
    is_foreign: bool = False


def kept(result: Result) -> Kept:
    """A result as it is held in memory."""
    return result if isinstance(result, tuple) else array("q", result)


def line_of(entry: Mapping[str, Any]) -> bytes:
    """Write an entry as a line."""
    text = json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def read_contents(content: bytes, header: bytes) -> Contents:
    """Read a journal.

    Args:
        content: of its file.
        header: the line that a new one begins with; a part of it alone is a journal that was cut short at once.
    """
    *lines, tail = content.split(b"\n")
    found = Contents(size=len(content) - len(tail))
    for line in lines:
        if (entry := _parse(line)) is not None:
            found.damaged += not _take(entry, found)
        else:
            found.damaged += 1
            for each in _run_together(line):
                _take(each, found)
    found.is_foreign = not found.headers and bool(content) and not header.startswith(content)
    return found


def _run_together(line: bytes) -> Iterator[Any]:
    """The entries of lines that became one, where the end of a line was lost."""
    starts = [match.start() for match in BEGINNING.finditer(line)]
    ends = [start - 1 for start in starts[1:]] + [len(line)]
    for start, end in zip(starts, ends, strict=False):
        entry = _parse(line[start:end])
        if entry is not None:
            yield entry


def _parse(line: bytes) -> Any:
    """The entry of a line, or None if the line is damaged."""
    text = line[9:]
    try:
        whole = line[8:9] == b" " and int(line[:8], 16) == zlib.crc32(text)
        return json.loads(text) if whole else None
    except (ValueError, RecursionError):
        return None


def _take(entry: Any, found: Contents) -> bool:
    """Put an entry where it belongs; returns whether it is of a known kind. Those of schema 1 are pairs."""
    if isinstance(entry, dict) and type(entry.get("schema")) is int:
        found.headers.append(entry)
        return True
    if isinstance(entry, dict) and isinstance(name := entry.get("spent_on"), str):
        seconds = entry.get("seconds")
        if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 <= seconds < math.inf:
            return False
        found.spent[name] = float(seconds)
        return True
    key: Any = None
    result: Result | None = None
    if isinstance(entry, dict):
        key, result = entry.get("key"), _score(entry["score"]) if "score" in entry else _ids(entry.get("ids"))
    elif isinstance(entry, list) and len(entry) == 2:
        key, result = entry[0], _score(entry[1]) or _ids(entry[1])
    if not isinstance(key, str) or result is None:
        return False
    found.results[key] = kept(result)
    return True


def _score(value: Any) -> tuple[float, bool] | None:
    if isinstance(value, list) and len(value) == 2 and type(value[0]) in (int, float) and type(value[1]) is bool:
        return value[0], value[1]
    return None


def _ids(value: Any) -> list[int] | None:
    if isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value):
        return value
    return None
