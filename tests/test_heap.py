"""A process that trains keeps what it frees."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gdn2.train import heap
from gdn2.train.heap import VARIABLES, keep_freed_memory

FAULTS = """
import resource, runpy, sys
kept = sys.argv[1] == "keep" and runpy.run_path(sys.argv[2])["keep_freed_memory"]()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        bytearray(80 << 20)[:: 1 << 12] = bytes(80 << 8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(int(kept), faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_freed_memory_does_not_come_from_the_system_again() -> None:
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    said = {}
    for how in ("keep", "leave"):
        command = [sys.executable, "-S", "-c", FAULTS, how, heap.__file__]
        found = subprocess.run(command, env=clean, capture_output=True, text=True, check=True).stdout
        said[how] = [int(word) for word in found.split()]
    if not said["keep"][0]:
        pytest.skip("another C library")
    assert said["keep"][1] < 0.1 * said["leave"][1]


@pytest.mark.parametrize("name", VARIABLES)
def test_the_environment_has_the_last_word(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    assert not keep_freed_memory()
