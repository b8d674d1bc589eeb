"""Where a run took place: machine, memory, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from pathlib import Path

from harness.engine import resident
from harness.paths import ROOT
from harness.records.model_info import Machine

GIT_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")
"""Set in hooks of git; they would name the repository that the hook runs for."""


def describe() -> Machine:
    """Look at processor, cores, memory, system and Python, and at the GPU where there is one."""
    import torch

    return Machine(
        cpu=_cpu_name(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        system=platform.platform(),
        python=platform.python_version(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    )


def peak_memory_mib() -> float:
    """Return the most resident memory of this process so far, in MiB, that of every task included."""
    return round(resident.peak_bytes() / 2**20, 1)


@cache
def git_state() -> tuple[str | None, bool | None]:
    """The commit of the running code and whether files differ from it; (None, None) where it is no checkout.

    As it was when first asked: what is edited during a run is not what runs.
    """
    return checkout_state(Path(__file__).resolve(), ROOT)


def checkout_state(file: Path, root: Path) -> tuple[str | None, bool | None]:
    """The commit of a checkout and whether tracked files differ from it.

    A package that was installed into a folder of another repository must not be taken for that repository's commit.

    Args:
        file: a file of the running code, its path resolved.
        root: the folder that is the top of the repository where the code is a checkout, its path resolved.

    Returns:
        (None, None) where `root` is no repository's top, or the file is not tracked there.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root or not _git(root, "ls-files", "--", str(file)):
        return None, None
    commit, status = _git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain", "--untracked-files=no")
    return (commit, bool(status)) if commit and status is not None else (None, None)


def _git(root: Path, *arguments: str) -> str | None:
    environment = {name: value for name, value in os.environ.items() if name not in GIT_REPOSITORY}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, env=environment
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
