"""Files as people have them: read or refused by name, and written whole or not at all.

Text is UTF-8, a byte order mark is no part of it, and a line ends at a newline alone (or a carriage return and a
newline): U+2028 and its like are characters of a text, not ends of its lines.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from errno import ENAMETOOLONG
from pathlib import Path
from typing import TYPE_CHECKING, Any

from basis.errors import FileError, reason

if TYPE_CHECKING:
    import yaml

ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


def read_text(path: Path) -> str:
    """Read a text file.

    Args:
        path: a regular file; pipes and devices are refused, because reading them may never end.

    Returns:
        The text without a byte order mark, its lines ended by newlines.

    Raises:
        FileError: the file is missing, cannot be read, or is not UTF-8.
    """
    data = read_bytes(path)
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start]
        raise FileError(f"{path}:{line}: not UTF-8 (byte 0x{byte:02x}); save the file as UTF-8") from error


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have is that of none.

    Raises:
        OSError: that cannot be found out, as in a folder which may not be entered.
    """
    try:
        return path.is_file()
    except ValueError:
        return False
    except OSError as error:
        if error.errno == ENAMETOOLONG:
            return False
        raise


def read_bytes(path: Path) -> bytes:
    """Read a regular file whole.

    Raises:
        FileError: the file is missing, is no regular file, or cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "no regular file"
            raise FileError(f"{path}: cannot be read (it is {kind})")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path}: cannot be read ({reason(error)})") from error


def split_lines(text: str) -> list[str]:
    r"""Split a text at newlines only, unlike `str.splitlines`.

    Args:
        text: as `read_text` gives it; a carriage return before a newline goes with it in any other text.

    Returns:
        The lines without their ends; a newline at the end of the text begins no further line.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if not lines[-1] else lines


def load_json(path: Path) -> Any:
    """Read a JSON file.

    Returns:
        What it holds. NaN and Infinity are understood, as configurations have them.

    Raises:
        FileError: the file cannot be read, is not JSON, is nested too deeply, or holds half a surrogate pair.
    """
    return parse_json(read_text(path), str(path))


def parse_json(text: str, where: str, line: int = 1) -> Any:
    """Parse JSON.

    Args:
        text: the JSON.
        where: what messages begin with, such as the file.
        line: the number of the text's first line in that file.

    Returns:
        What the text holds.

    Raises:
        FileError: not JSON, nested too deeply, or half a surrogate pair, which no file could hold.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise FileError(f"{where}:{line}: nested too deeply to be read") from error
    except json.JSONDecodeError as error:
        raise FileError(f"{where}:{line + error.lineno - 1}: not JSON ({error.msg})") from error
    except ValueError as error:  # a whole number of thousands of digits
        raise FileError(f"{where}: not JSON that can be read ({reason(error)})") from error
    if (place := _lone_surrogate(text)) is not None:
        number = line + text.count("\n", 0, place)
        raise FileError(f"{where}:{number}: {text[place : place + 6]} is half a character (a lone surrogate)")
    return value


def _lone_surrogate(text: str) -> int | None:
    """The place of the first escape of a surrogate that has no other half; text decoded from UTF-8 has no bare ones."""
    if "\\ud" not in text and "\\uD" not in text:
        return None
    high: int | None = None
    end = -1
    for escape in ESCAPE.finditer(text):
        unit = int(escape[1], 16) if escape[1] else 0
        low = 0xDC00 <= unit <= 0xDFFF
        if high is not None and not (low and escape.start() == end):
            return high
        if low and high is None:
            return escape.start()
        high = escape.start() if 0xD800 <= unit <= 0xDBFF else None
        end = escape.end()
    return high


def load_yaml(path: Path, loader: type[yaml.SafeLoader] | None = None) -> Any:
    """Read a YAML file with one document.

    Args:
        path: the file.
        loader: a subclass of `basis.yaml_loader.GuardedLoader` that knows more tags; by default that loader itself.

    Returns:
        What the file holds; None if it holds nothing.

    Raises:
        FileError: the file cannot be read or is not YAML; a field is given twice; an alias refers to itself or
            makes the file swell; it is nested too deeply; it holds half a surrogate pair.
    """
    return parse_yaml(read_text(path), str(path), loader)


def parse_yaml(text: str, where: str, loader: type[yaml.SafeLoader] | None = None) -> Any:
    """Parse YAML, as `load_yaml` does.

    Args:
        text: the YAML.
        where: what messages begin with, such as the file.
        loader: as for `load_yaml`.

    Returns:
        What the text holds.

    Raises:
        FileError: as for `load_yaml`.
    """
    from basis.yaml_loader import construct

    return construct(text, where, loader)


def try_writing(folder: Path) -> None:
    """See that files can be made in a folder, before hours of work depend on it; none is left there.

    Args:
        folder: one that is there; who wants it made makes it.

    Raises:
        OSError: they cannot.
    """
    import tempfile  # where it is needed: it takes longer than all the rest of this module

    with tempfile.TemporaryFile(dir=folder):
        pass


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that, whenever the machine stops, either the old or the new content is there.

    The content goes to a temporary file beside it, to the disk, and then to its name. A device or pipe is written to
    directly, never replaced.

    Args:
        path: the file; its folder exists. A link's target is what is replaced.
        content: text (as UTF-8, newlines kept) or bytes.

    Raises:
        FileError: it cannot be written; what was there before is as it was.
    """
    data = content.encode("utf-8", errors="surrogatepass") if isinstance(content, str) else content
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # /dev/stdout of a pipe resolves to no path
            with path.open("wb") as device:
                device.write(data)
            return
        target = path.resolve()
        with replacing(target) as temporary:
            temporary.write_bytes(data)
    except (OSError, ValueError, RuntimeError) as error:
        raise FileError(f"{path}: cannot be written ({reason(error)})") from error


@contextlib.contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Give a temporary path beside a file, and put what was written there in the file's place, in one step.

    Args:
        path: the file; its folder exists.
        sync: whether the content is on disk before it has the file's name. Without it, a machine that stops may leave
            an empty file; a process that stops never does.

    Raises:
        OSError: it cannot be written; what was there before is as it was, and nothing is left beside it.
    """
    temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}.tmp")
    try:
        yield temporary
        if sync:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
