"""Processes end with the one that started them, in whatever way that ends."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from basis import children
from basis.signals import ends_by_interrupt
from gdn2.train.rivals.crew import LATE, Crew

ROOT = Path(__file__).resolve().parent.parent
SHORT = {"harness/records/machine.py", "gdn2/ops/triton/aot/binaries.py"}
"""Files that ask a tool of another project something that is answered at once."""
CHILD = ["-n1", "-r1", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]
STARTS_ONE = f"""
import subprocess, sys, time
from pathlib import Path
from basis import children
command = children.command("timeit", {CHILD!r})
if sys.argv[1] == "alone":
    subprocess.Popen(command)
    time.sleep(60)
from gdn2.train.rivals.crew import Crew
Crew(Path(sys.argv[1]), ["cpu"], None)._run("a", "cpu", command, None, Path.cwd())
"""
STARTS_A_POOL = """
import os, sys, time
sys.path.insert(0, os.getcwd())
from basis import children
from basis.signals import ends_by_interrupt

if __name__ == "__main__":
    with ends_by_interrupt(), children.pool(1) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 60).result()
"""


def is_running(process: int) -> bool:
    """Whether a process does anything still; one that has ended may wait for whoever collects it."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def ends(process: int) -> bool:
    """Whether a process ends in the next seconds; it is ended if it does not."""
    for _ in range(250):
        if not is_running(process):
            return True
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    return False


@pytest.mark.parametrize("told", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_process_ends_when_what_started_it_does(told: int) -> None:
    command = [sys.executable, "-c", STARTS_ONE, "alone"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.send_signal(told)
        parent.wait()
        assert ends(child)  # before its pipe is read to the end, which waits for it


def test_a_training_ends_when_the_one_that_started_it_is_killed(tmp_path: Path) -> None:
    command, log = [sys.executable, "-c", STARTS_ONE, str(tmp_path)], tmp_path / "logs" / "a.txt"
    with subprocess.Popen(command, cwd=ROOT) as parent:
        for _ in range(500):
            if log.is_file() and log.read_text().strip():
                break
            time.sleep(0.02)
        child = int(log.read_text())
        parent.kill()
    assert ends(child)


def test_no_run_is_begun_behind_an_interrupt_of_those_that_run(tmp_path: Path) -> None:
    crew = Crew(tmp_path, ["cpu"], None)
    crew._interrupt()
    ended = crew._run("a", "cpu", [sys.executable, "-c", "open('begun', 'w')"], None, tmp_path)
    assert (ended.status, ended.last) == (LATE, "interrupted")
    assert not (tmp_path / "begun").exists()


@pytest.mark.parametrize("told", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_of_a_pool_ends_with_what_started_it(tmp_path: Path, told: int) -> None:
    """Told to end, that does not wait for what its workers are at, and says nothing but where it was."""
    script = tmp_path / "pool.py"
    script.write_text(STARTS_A_POOL)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, script], stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(told)
        try:
            parent.wait(10)
        finally:
            parent.kill()
        assert ends(child)
        assert parent.stderr is not None
        assert parent.stderr.read().count("Traceback") == (told != signal.SIGKILL)


def test_a_process_is_the_module_that_it_was_asked_for() -> None:
    done = subprocess.run(children.command("json.tool", ["--no-such"]), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert "unrecognized arguments: --no-such" in done.stderr
    done = subprocess.run(children.command("json.tool"), input="[1]", capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["[", "1", "]"]


def test_whatever_starts_processes_lets_them_end_with_it() -> None:
    """A `Popen`, `run` or pool anywhere in our packages is of `children`, or of a tool that answers at once."""
    for package in ("basis", "gdn2", "harness", "tasks"):
        for path in (ROOT / package).rglob("*.py"):
            name, source = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
            if name == "basis/children.py" or name in SHORT:
                continue
            called = {ast.unparse(node.func) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)}
            assert not called & {"ProcessPoolExecutor", "os.fork", "os.system"}, name
            assert not any(one.endswith(".Pool") for one in called), name
            if called & {"subprocess.Popen", "subprocess.run", "subprocess.check_output"}:
                assert "children.command(" in source or name == "gdn2/train/rivals/crew.py", name


def test_a_worker_that_is_killed_is_told_in_one_line() -> None:
    from tasks.errors import TaskError
    from tasks.ruler import pool

    with pytest.raises(TaskError, match=r"one of 1 processes that draw samples was killed"), pool._pool(1) as made:
        made.submit(os._exit, 1).result()


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGHUP])
def test_being_told_to_end_is_an_interrupt_inside_and_the_system_s_own_way_behind(told: int) -> None:
    before = signal.signal(told, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt), ends_by_interrupt():
            os.kill(os.getpid(), told)
        assert signal.getsignal(told) is signal.SIG_DFL
    finally:
        signal.signal(told, before)


def test_under_nohup_a_terminal_that_is_closed_changes_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ends_by_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_is_closed_says_so_twice_and_lets_clear_up() -> None:
    before, cleared = signal.signal(signal.SIGHUP, signal.SIG_DFL), False
    try:
        with ends_by_interrupt():
            try:
                os.kill(os.getpid(), signal.SIGHUP)
            except KeyboardInterrupt:
                os.kill(os.getpid(), signal.SIGHUP)
                cleared = True
        assert cleared
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_is_started_behind_a_script_stays_deaf_to_its_terminal() -> None:
    """Such a process ignores Ctrl-C, which the terminal sends to all of the script; so do those that it starts."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code = "import os; os.kill(os.getpid(), 2); print('goes on')"
        done = subprocess.run(
            children.command("timeit", ["-n1", "-r1", code]), capture_output=True, text=True, cwd=ROOT
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert "goes on" in done.stdout
