"""Records of earlier schemas (1 to 3) in the form of the present one.

Until schema 3 a cell repeated the fields of its task's protocol, a score had no unit, the machine's memory was called
GB, and peaks of memory were called MB: a run's was in units of 2**20 bytes, a cell's of 10**6. Schema 5 only added
`added` and let null stand where records that were added do not say something, so one of schema 4 is read as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.records.fields import FieldError
from tasks.families import unit_of

IN_PROTOCOL = ("length", "version", "samples", "seed", "max_length", "generator", "shots", "spec", "data")
PRESENT_FORM = 4
"""The first schema that is read as it is."""
REQUIRED = ("task", "length", "version", "samples", "seed", "max_length", "data", "scores")


def lift_record(raw: Mapping[str, Any], schema: int) -> dict[str, Any]:
    """Put a record of an earlier schema into the present form.

    Args:
        raw: as its file holds it; what is wrong in it stays as it is, for the reader to find.
        schema: the present one.

    Raises:
        FieldError: a part of it has no fields where it must have some.
    """
    lifted = _renamed(raw, "peak_memory_mb", "peak_memory_mib") | {"schema": schema}
    if isinstance(raw.get("machine"), Mapping):
        lifted["machine"] = _renamed(raw["machine"], "memory_gb", "memory_gib")
    tasks = _tasks(raw.get("protocol"))
    if isinstance(raw.get("cells"), list):
        lifted["cells"] = [lift_cell(cell, f"cells[{i}]", tasks) for i, cell in enumerate(raw["cells"])]
    return lifted


def lift_cell(raw: Any, trail: str, tasks: Mapping[tuple[str, str], Mapping[str, Any]]) -> dict[str, Any]:
    """Put a cell of an earlier schema into the present form.

    Args:
        raw: as JSON holds it.
        trail: its place in the file, for messages.
        tasks: the protocols of the run's tasks as JSON holds them, by name and length; what a cell did not repeat is
            taken from there.

    Raises:
        FieldError: it has no fields, or lacks one.
    """
    if not isinstance(raw, Mapping):
        raise FieldError(trail, "must have fields")
    for name in REQUIRED:
        if name not in raw:
            raise FieldError(trail, f"field {name!r} is missing")
    scores = raw["scores"]
    if not isinstance(scores, Mapping):
        raise FieldError(f"{trail}.scores" if trail else "scores", "must have fields")
    said = tasks.get(_key(raw["task"], raw["length"]), {})
    protocol = {name: raw[name] for name in IN_PROTOCOL if name in raw}
    protocol |= {"name": raw["task"], "generator": raw.get("generator"), "generation": said.get("generation", {})}
    if "stops_at_references" in said:
        protocol["stops_at_references"] = said["stops_at_references"]
    lifted = {name: value for name, value in raw.items() if name not in (*IN_PROTOCOL, "task")}
    lifted = _renamed(lifted, "peak_memory_mb", "peak_memory_mib")
    peak = lifted.get("peak_memory_mib")
    if isinstance(peak, float):
        lifted["peak_memory_mib"] = round(peak * 1e6 / 2**20, 1)
    units = {
        metric: {"unit": unit_of(metric), **score} if isinstance(score, Mapping) else score
        for metric, score in scores.items()
    }
    return {**lifted, "protocol": protocol, "scores": units}


def _renamed(raw: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    return {new if name == old else name: value for name, value in raw.items()}


def _tasks(protocol: Any) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The tasks of a protocol by name and length, as far as they can be read."""
    tasks = protocol.get("tasks") if isinstance(protocol, Mapping) else None
    listed = [task for task in tasks if isinstance(task, Mapping)] if isinstance(tasks, list) else []
    return {_key(task.get("name"), task.get("length")): task for task in listed}


def _key(name: Any, length: Any) -> tuple[str, str]:
    """A value that can be a dictionary's key, whatever the fields hold."""
    return str(name), repr(length)
