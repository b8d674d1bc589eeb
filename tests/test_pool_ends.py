"""Processes that draw samples end with the one that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STARTS_ONE = """
import os, subprocess, sys, time
child = "import sys, time; from tasks.ruler import pool; pool.WATCH_SECONDS = 0.02; pool.end_with(int(sys.argv[1]))"
child += "; print('ready', flush=True); time.sleep(60)"
started = subprocess.Popen([sys.executable, "-c", child, str(os.getpid())], stdout=subprocess.PIPE)
started.stdout.readline()
print(started.pid, flush=True)
time.sleep(60)
"""


def test_a_worker_ends_when_what_started_it_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", STARTS_ONE], stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert is_running(worker)
        parent.send_signal(signal.SIGKILL)
    for _ in range(500):
        if not is_running(worker):
            return
        time.sleep(0.02)
    os.kill(worker, signal.SIGKILL)
    raise AssertionError("the worker goes on")


def test_every_pool_is_watched() -> None:
    from tasks.ruler import pool

    with pool._pool(1) as made:
        assert made._initializer is pool.end_with
        assert made._initargs == (os.getpid(),)


def test_a_worker_that_is_killed_is_told_in_one_line() -> None:
    from tasks.errors import TaskError
    from tasks.ruler import pool

    with pytest.raises(TaskError, match=r"one of 1 processes that draw samples was killed"), pool._pool(1) as made:
        made.submit(os._exit, 1).result()


def is_running(process: int) -> bool:
    """Whether a process does anything still; one that has ended may wait for whoever collects it."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
