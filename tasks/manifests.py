"""The manifest of staged data: for each file where it came from, its bytes and their hash."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from basis.errors import FileError
from basis.files import load_json

MANIFEST_FIELDS: dict[str, type | tuple[type, ...]] = {
    "sha256": str,
    **dict.fromkeys(("source", "from", "date"), (str, type(None))),
    "bytes": (int, type(None)),
    **dict.fromkeys(("revision", "route", "parent_sha256"), (str, type(None))),
}


def parse_manifest(file: Path) -> dict[str, dict[str, Any]]:
    """The entries of any manifest.

    Raises:
        FileError: it cannot be read, is no manifest, or an entry lacks a field or has one of another type.
    """
    content = load_json(file)
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict):
        raise FileError(f"{file}: not a manifest of staged data (no mapping 'files')")
    for name, entry in files.items():
        if not isinstance(entry, dict):
            raise FileError(f"{file}: files.{name} must be a mapping, got {entry!r:.80}")
        for field, kinds in MANIFEST_FIELDS.items():
            if not isinstance(entry.get(field), kinds) or isinstance(entry.get(field), bool):
                raise FileError(
                    f"{file}: files.{name}.{field} is missing or of another type, got {entry.get(field)!r:.80}"
                )
        if not re.fullmatch("[0-9a-f]{64}", entry["sha256"]):
            raise FileError(f"{file}: files.{name}.sha256 is no SHA-256, got {entry['sha256']!r:.80}")
    return files
