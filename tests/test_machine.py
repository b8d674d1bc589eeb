"""What a record says of the machine belongs to the process that ran."""

from __future__ import annotations

import subprocess
import sys

from harness.records.machine import describe, peak_memory_mib

CHILD = "from harness.records.machine import peak_memory_mib; print(peak_memory_mib())"
LARGE = 300 << 20


def test_a_small_child_of_a_large_parent_has_a_small_peak() -> None:
    """getrusage says of a child what its parent had when it was started; the record must not."""
    parent = f"import subprocess, sys; a = bytes({LARGE}); b = bytearray(b'x') * {LARGE}; "
    parent += f"subprocess.run([sys.executable, '-c', {CHILD!r}], check=True)"
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    assert float(done.stdout) < LARGE / 2**20 / 2


def test_the_peak_is_in_mib_and_grows_with_what_is_taken() -> None:
    before = peak_memory_mib()
    taken = bytearray(b"x") * (64 << 20)
    assert peak_memory_mib() >= before
    assert len(taken) >> 20 == 64
    assert 20 < peak_memory_mib() < 1 << 20
    assert (describe().memory_gib or 0) > 0.5
