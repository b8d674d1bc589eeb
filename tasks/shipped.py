"""The tasks of this project, from their YAML files.

A task is defined by the YAML that carries `metadata: name:`. A task with lengths has its own folder: `_base.yaml`
defines it, and `<length>.yaml` are the shipped lengths.
"""

from __future__ import annotations

from functools import lru_cache

from tasks.info import TaskInfo
from tasks.task_files import ROOT, load_yaml


@lru_cache(maxsize=1)
def shipped_tasks() -> dict[str, TaskInfo]:
    """The tasks of this project, by name."""
    infos: dict[str, TaskInfo] = {}
    for file in sorted(ROOT.glob("*/**/*.yaml")):
        if file.parent.name == "suites" or file.stem.isdigit():
            continue
        config = load_yaml(file)
        metadata = config.get("metadata", {})
        if "name" not in metadata:
            continue
        lengths = sorted(int(other.stem) for other in file.parent.glob("*.yaml") if other.stem.isdigit())
        infos[metadata["name"]] = TaskInfo(
            name=metadata["name"],
            family=metadata["family"],
            builder=str(config["custom_dataset"]),
            lengths=tuple(lengths) if file.name == "_base.yaml" else (),
            metric=metadata["metric"],
            metrics=tuple(entry["metric"] for entry in config["metric_list"]),
            description=metadata["description"],
            data=tuple(metadata["data"]),
            samples=config["dataset_kwargs"]["spec"]["samples"],
            file=file,
            examples=config["dataset_kwargs"]["spec"].get("examples"),
            room=tuple(metadata.get("room", (1, 0))),
        )
    return infos
