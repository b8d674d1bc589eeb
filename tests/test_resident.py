"""A process's peak of memory is its own: not that of the program that started it, nor lost to a later one."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ballast import ballast

from harness.engine import resident
from harness.engine.memory import PeakMemory
from harness.records import machine

ROOT = Path(__file__).resolve().parent.parent
LARGE = 200 << 20
on_linux = pytest.mark.skipif(not resident.STATUS.is_file(), reason="no /proc")


@on_linux
def test_a_small_program_that_a_large_one_starts_reports_small() -> None:
    taken = ballast(LARGE)
    code = "from harness.engine import resident; print(resident.peak_bytes())"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    assert resident.peak_bytes() > len(taken)
    assert 1 << 20 < int(child.stdout) < 100 << 20


@on_linux
def test_the_peak_of_a_run_outlives_the_peaks_of_its_tasks() -> None:
    large = ballast(LARGE)
    before = machine.peak_memory_mib()
    large.close()
    task = PeakMemory(torch.device("cpu"))
    task.start()
    own = task.mib()
    assert own is not None
    if not os.access(resident.CLEAR_REFS, os.W_OK):
        pytest.skip("the system does not reset peaks")
    assert own < before - 100  # the task's own
    assert machine.peak_memory_mib() > before - 1  # the run's; the kernel's counters are coarse


@pytest.mark.parametrize(("system", "unit"), [("linux", 1024), ("darwin", 1)])
def test_without_proc_the_system_is_asked(monkeypatch: pytest.MonkeyPatch, system: str, unit: int) -> None:
    monkeypatch.setattr(resident, "STATUS", Path("/no/such/file"))
    monkeypatch.setattr(sys, "platform", system)
    asked = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert resident.peak_bytes() >= asked * unit
    assert resident.peak_bytes_since_reset() is None


def test_nothing_else_asks_what_a_process_inherits() -> None:
    folders = ("basis", "benchmarks", "gdn2", "harness", "tasks")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    asking = {file.name for file in files if "ru_maxrss" in file.read_text(encoding="utf-8")}
    assert asking == {"resident.py"}
