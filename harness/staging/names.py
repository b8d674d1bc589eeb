"""From names of suites, tasks and files to data files, and for each file where it is taken from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from basis.names import or_near
from harness.errors import UserError
from tasks import data
from tasks.errors import TaskError
from tasks.registry import ResolvedTask, list_tasks, load_suite, resolve, suite_names

SOURCES = ("package", "hub")


def select(names: Sequence[str] | None) -> list[str]:
    """The data files behind suites, tasks and files, in the order of sources.yaml, with what they are derived from.

    Raises:
        UserError: a name that is none of them.
    """
    declared = data.sources()
    files = declared["files"]
    if names is None:  # what the first package holds; all others are staged by name
        first = next(iter(declared["wheels"]))
        return [name for name, entry in files.items() if "derived_from" in entry or _wheel_of(files[name]) == first]
    by_stem = {name.rsplit(".", 1)[0]: name for name in files}
    wanted: set[str] = set()
    for name in names:
        if (file := name if name in files else by_stem.get(name)) is not None:
            wanted.add(file)
        else:
            wanted |= {file for task in tasks_of(name) for file in task.data}
    wanted |= {files[name]["derived_from"] for name in wanted if "derived_from" in files[name]}
    return [name for name in files if name in wanted]


def tasks_of(name: str, samples: int | None = None) -> list[ResolvedTask]:
    """The tasks of a suite (by name or path), or one task.

    Raises:
        UserError: neither; names data files, suites and how to list tasks.
    """
    suites = suite_names()
    if name in suites or name.endswith((".yaml", ".yml")):
        return load_suite(name).resolve(samples)
    try:
        return [resolve(name, samples=samples)]
    except TaskError as error:
        if "needs a length" in str(error):  # every length reads the same files
            return [resolve(name, 1024, samples)]
        files, checkpoints = data.sources()["files"], data.sources().get("checkpoints", {})
        tasks = [info.name for info in list_tasks()]
        known = [*(file.rsplit(".", 1)[0] for file in files), *suites, *checkpoints, *tasks]
        raise UserError(
            f"unknown data file, suite or task {name!r}{or_near(name, known) or ';'} `python run_eval.py tasks list` "
            "names tasks and suites, `stage --list` the files"
        ) from error


def route(declared: Mapping[str, Any], source: str | None, entry: Mapping[str, Any]) -> str | None:
    """Where a file is taken from: `package`, `hub`, `derived`, or None where the source that was asked for lacks it.

    Args:
        declared: its entry in sources.yaml.
        source: what was asked for. None: where it was staged from before, else the package if it holds the file.
        entry: its entry in the manifest that is to be followed; empty without one.
    """
    if "derived_from" in declared:
        return "derived"
    there = [source for source in SOURCES if source in declared]
    if source is not None:
        return source if source in there else None
    before = entry.get("source")
    return before if before in there else there[0]


def _wheel_of(declared: Mapping[str, Any]) -> str | None:
    wheel: str | None = declared.get("package", {}).get("wheel")
    return wheel
