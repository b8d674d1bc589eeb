"""Processes that end with the one that started them, in whatever way that ends: a kill lets it clean up nothing."""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

ROOT = Path(__file__).resolve().parent.parent
"""From which this project is imported."""
WATCH_SECONDS = 0.5


def command(module: str, arguments: Sequence[str] = ()) -> list[str]:
    """The command that runs a module as `python -m` does, in a process that ends with this one.

    Args:
        module: by its name.
        arguments: of it.
    """
    return [sys.executable, "-m", __name__, str(os.getpid()), module, *arguments]


def environment(**more: str) -> dict[str, str]:
    """The environment of such a process: it imports this project wherever it starts, and nothing that lies there.

    Args:
        more: variables that it has beside this process's own, or instead of them.
    """
    others = os.environ.get("PYTHONPATH")
    paths = f"{ROOT}{os.pathsep}{others}" if others else str(ROOT)
    return {**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1", **more}


@contextlib.contextmanager
def pool(workers: int, prepare: Callable[[], object] | None = None) -> Iterator[ProcessPoolExecutor]:
    """Processes that do what they are given, one thing after the other, and end with this one.

    A worker would otherwise work on, and then wait for ever: of the pipes that it reads, its siblings hold the other
    ends. Where this process leaves the pool by an exception, an interrupt among them, it does not wait for what they
    are at.

    Args:
        workers: how many.
        prepare: is called first in each.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # Fork would copy a process whose threads (torch, tokenizers) hold locks.
    context = multiprocessing.get_context("spawn")
    made = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(os.getpid(), prepare))
    try:
        yield made
    except BaseException:
        for process in list((made._processes or {}).values()):
            process.kill()
        raise
    finally:
        made.shutdown()


def end_with(parent: int) -> None:
    """Let this process end when the one that started it does.

    It ends at once, as by a kill; all that counts is written in one step, so nothing half-written does.

    Args:
        parent: the process that this one was started by.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _begin(parent: int, prepare: Callable[[], object] | None) -> None:
    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is this one's parent that is interrupted, and ends this
    if prepare is not None:
        prepare()


def _main() -> None:
    """Be the module that `command` names."""
    parent, module = sys.argv[1:3]
    end_with(int(parent))
    del sys.argv[1:3]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
