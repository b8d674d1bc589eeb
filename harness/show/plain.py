"""Text of others (names of models, tasks and runs) in a form that can do nothing where it is shown."""

from __future__ import annotations

import re
import unicodedata

UNSEEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))  # control, invisible, reordering, ends of lines
MARKUP = re.compile(r"[\\`*\[\]<>|&~#!$]|(?<!\w)_|_(?!\w)")


def plain(text: str) -> str:
    r"""Write what moves a cursor, ends a line, reorders or hides text as its code, such as `\x1b`."""
    return "".join(code(letter) if category(letter) in UNSEEN else letter for letter in text)


def markdown(text: str) -> str:
    """Write a text so that GitHub's Markdown shows it as it is, in a cell of a table too."""
    return MARKUP.sub(_as_entity, plain(text))


def category(letter: str) -> str:
    """The category of a character in Unicode, such as `Cc` of control characters."""
    return unicodedata.category(letter)


def code(letter: str) -> str:
    r"""A character as its number in Unicode, such as `\x1b`."""
    number = ord(letter)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _as_entity(found: re.Match[str]) -> str:
    """An HTML entity stands for itself everywhere in Markdown; a backslash does not in code or in tables."""
    return f"&#{ord(found[0])};"
