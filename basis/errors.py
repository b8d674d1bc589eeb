"""The errors that a user can act on: one base class, which every package derives its own from."""

from __future__ import annotations

MOST_SHOWN = 80
"""Characters of a value in a message."""


class UserError(Exception):
    """A one-line message that names the cause and the way out; a command line prints it and exits with code 2."""


class FileError(UserError, ValueError):
    """A file that cannot be read, written or understood; the message begins with the file, and its line if known."""


def shown(value: object) -> str:
    """Write a value for a message: on one line, and cut if it is long.

    Args:
        value: of any type; a number of more digits than are shown is counted instead.
    """
    if isinstance(value, int) and abs(value) >= 10**MOST_SHOWN:
        return f"a number of more than {MOST_SHOWN} digits"
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 3] + "..."


def reason(error: BaseException) -> str:
    """Say in a few words what an exception is about.

    Args:
        error: any exception, most often one of the operating system.

    Returns:
        The operating system's words for its error, else the message on one line, else the type's name.
    """
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(words.split()) or type(error).__name__
