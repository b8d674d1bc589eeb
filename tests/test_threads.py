"""Threads: what is free is seen, and what the user says counts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.engine import threads


@pytest.fixture
def usual() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield 4
    torch.set_num_threads(before)


@pytest.mark.parametrize(("free", "taken"), [(0.0, 1), (0.6, 1), (1.4, 1), (1.5, 2), (3.2, 3), (4.0, 4), (64.0, 4)])
def test_torch_takes_no_more_threads_than_cores_are_free(
    usual: int, monkeypatch: pytest.MonkeyPatch, free: float, taken: int
) -> None:
    monkeypatch.delenv(threads.VARIABLE, raising=False)
    monkeypatch.setattr(threads, "free_cores", lambda: free)
    note = threads.choose_threads()
    assert torch.get_num_threads() == taken
    assert (note is None) == (taken == usual)
    assert note is None or f"{taken} thread" in note


def test_what_the_user_says_about_threads_counts(usual: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(threads.VARIABLE, "4")
    monkeypatch.setattr(threads, "free_cores", lambda: pytest.fail("looks"))
    assert threads.choose_threads() is None
    assert torch.get_num_threads() == usual


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000", "jobs/one/cpu.max": "50000 100000", "jobs/cpu.max": "80000 100000"}, 0.5),
        ({"cpu/jobs/cpu.cfs_quota_us": "25000", "cpu/jobs/cpu.cfs_period_us": "100000"}, 0.25),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 3.0),
        ({"cpu.max": "garbage"}, 3.0),
        ({}, 3.0),
    ],
)
def test_quotas_of_every_group_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: float
) -> None:
    monkeypatch.setattr(threads, "_affinity", lambda: {0, 1, 5})
    for name, content in files.items():
        file = tmp_path / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    (tmp_path / "own").write_text("12:cpu,cpuacct:/jobs/one\n0::/jobs/one\n")
    assert threads.usable_cores(tmp_path / "groups", tmp_path / "own") == cores
    assert threads.usable_cores(tmp_path / "groups", tmp_path / "absent") in (cores, 3.0)


def test_only_the_idle_share_of_the_cores_of_this_process_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([{0: (0, 0), 1: (0, 0), 2: (0, 0)}, {0: (10, 10), 1: (4, 10), 2: (10, 10)}])
    monkeypatch.setattr(threads, "_busy", lambda: next(looks))
    monkeypatch.setattr(threads, "_affinity", lambda: {0, 1})
    monkeypatch.setattr(threads, "usable_cores", lambda: 2.0)
    assert threads.free_cores() == pytest.approx(1.4)
    monkeypatch.setattr(threads, "_busy", dict)
    monkeypatch.setattr("os.getloadavg", lambda: (3.0, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert threads.free_cores() == pytest.approx(0.5)


def test_the_columns_of_proc_stat_are_understood(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  1 1 1 1 1 1 1 1 0 0\ncpu0 10 0 5 70 10 0 5 0 9 9\ncpu11 1 1 1 1 1 1 1 1 0 0\nintr 5\n")
    assert threads._busy(stat) == {0: (80, 100), 11: (2, 8)}
    assert threads._busy(tmp_path / "absent") == {}
