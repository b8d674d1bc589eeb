"""How many threads torch takes: as many as cores are free.

On cores that others use, more threads wait for each other, and everything takes many times as long.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

VARIABLE = "OMP_NUM_THREADS"
SECONDS = 0.1  # for which the cores are watched
IDLE = (3, 4)  # columns of /proc/stat behind the name: idle, waiting for a disk


def choose_threads() -> str | None:
    """Let torch take no more threads than cores are free; nothing changes if the user has set `OMP_NUM_THREADS`.

    Returns:
        A sentence for the user if torch takes fewer threads than it would have taken, else None.
    """
    import torch

    if os.environ.get(VARIABLE):
        return None
    usual, cores, free = torch.get_num_threads(), usable_cores(), free_cores()
    taken = max(1, min(usual, math.floor(free + 0.5)))
    if taken >= usual:
        return None
    torch.set_num_threads(taken)
    word = "thread" if taken == 1 else "threads"
    return f"{taken} {word} instead of {usual}: {free:.1f} of {cores:g} cores are free; {VARIABLE}=N decides otherwise"


def usable_cores(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Count the cores that this process may use: by its affinity, and by the quota of its control group.

    Args:
        cgroups: where control groups are mounted.
        own: the file that names this process's group.

    Returns:
        Cores; a fraction if the quota says so.
    """
    return min([float(len(_affinity())), *_quotas(cgroups, own)])


def free_cores() -> float:
    """Measure for a tenth of a second how many usable cores are idle; without /proc/stat, ask the load average."""
    usable, cores = usable_cores(), _affinity()
    before = _busy()
    if not before:
        return max(0.0, usable - os.getloadavg()[0] * len(cores) / (os.cpu_count() or len(cores)))
    time.sleep(SECONDS)
    after = _busy()
    idle = sum(idle_share(before[core], after[core]) if core in before and core in after else 1.0 for core in cores)
    return min(usable, idle)


def idle_share(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Say which share of a core's time was idle.

    Args:
        before: (idle, all) ticks of a core, as /proc/stat counts them.
        after: the same, later.

    Returns:
        From 0 to 1; 1 if no tick has passed.
    """
    passed = after[1] - before[1]
    return min(1.0, max(0.0, (after[0] - before[0]) / passed)) if passed > 0 else 1.0


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _busy(stat: Path = Path("/proc/stat")) -> dict[int, tuple[int, int]]:
    """(idle, all) ticks of each core; none where the system does not say."""
    try:
        lines = stat.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    found = {}
    for name, *columns in (line.split() for line in lines if line.startswith("cpu")):
        if name[3:].isdecimal() and len(columns) > max(IDLE):
            ticks = [int(column) for column in columns[:8]]
            found[int(name[3:])] = (sum(ticks[column] for column in IDLE), sum(ticks))
    return found


def _quotas(cgroups: Path, own: Path) -> list[float]:
    """Cores of every quota on the way from this process's control group up, of both versions of control groups."""
    found = []
    try:
        groups = [line.split(":", 2)[2].strip("/") for line in own.read_text().splitlines() if line.count(":") > 1]
    except OSError:
        groups = []
    for group in {"", *groups}:
        for parts in range(len(Path(group).parts) + 1):
            folder = Path(*Path(group).parts[:parts])
            quota = _numbers(cgroups / folder / "cpu.max") or [
                *_numbers(cgroups / "cpu" / folder / "cpu.cfs_quota_us"),
                *_numbers(cgroups / "cpu" / folder / "cpu.cfs_period_us"),
            ]
            if len(quota) == 2 and quota[0] > 0 and quota[1] > 0:
                found.append(quota[0] / quota[1])
    return found


def _numbers(file: Path) -> list[int]:
    try:
        words = file.read_text().split()
    except OSError:
        return []
    return [int(word) for word in words] if all(word.lstrip("-").isdecimal() for word in words) else []
