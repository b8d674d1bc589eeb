"""Repositories of the Hugging Face hub as the cache on this machine has them; nothing here touches the network."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from basis.hub import REPOSITORY, SNAPSHOTS
from harness.errors import UserError

NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?")
COMMIT = re.compile(r"[0-9a-f]{7,40}")


@dataclass(frozen=True)
class HubName:
    """A repository's name as a user types it: `ORG/NAME`, or `ORG/NAME@REVISION`.

    Attributes:
        repository: `ORG/NAME`.
        revision: a branch, a tag, or a commit of seven digits and more; None: `main`.
    """

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repository + (f"@{self.revision}" if self.revision else "")

    @staticmethod
    def parse(text: str) -> HubName | None:
        """The name in a text; None if it is none."""
        found = NAME.fullmatch(text)
        return None if found is None or ".." in text else HubName(found[1], found[2])


def cached_snapshot(name: HubName) -> Path | None:
    """The folder of a repository's snapshot in the hub's cache; None if it is not there.

    Args:
        name: without a revision it means what `main` was when it was fetched.
    """
    repository = _repository(name)
    found = [repository / SNAPSHOTS / commit for commit in known_commits(name)]
    reference = repository / "refs" / (name.revision or "main")
    if reference.is_file():
        commit = reference.read_text(encoding="utf-8", errors="replace").strip()
        return next((folder for folder in found if folder.name == commit), None)
    if name.revision is not None and COMMIT.fullmatch(name.revision):
        found = [folder for folder in found if folder.name.startswith(name.revision)]
        return found[0] if len(found) == 1 else None
    return None


def known_commits(name: HubName) -> list[str]:
    """The commits of a repository whose snapshots the cache has."""
    return sorted(folder.name for folder in (_repository(name) / SNAPSHOTS).glob("*") if folder.is_dir())


def cached_repositories() -> list[str]:
    """The repositories of the hub's cache, as `ORG/NAME`, sorted."""
    folders = cache_folder().glob(f"{REPOSITORY}*")
    return sorted(folder.name.removeprefix(REPOSITORY).replace("--", "/", 1) for folder in folders)


def origin(path: Path) -> str | None:
    """The repository and commit of a snapshot's folder, as `ORG/NAME@COMMIT`; None for any other path."""
    folder = path.absolute()
    repository = folder.parent.parent.name
    if folder.parent.name != SNAPSHOTS or not repository.startswith(REPOSITORY):
        return None
    return f"{repository.removeprefix(REPOSITORY).replace('--', '/', 1)}@{folder.name}"


def complete(folder: Path, name: HubName) -> Path:
    """The folder, if it has a configuration and all its files with weights.

    Raises:
        UserError: half a download; says how to complete it.
    """
    from gdn2.checkpoints import CheckpointError
    from gdn2.checkpoints.tensors import weight_files

    try:
        lacks = None if (folder / "config.json").is_file() else "no config.json in it"
        if lacks is None:
            weight_files(folder)
    except CheckpointError as error:
        lacks = str(error).removeprefix(f"{folder}: ").removeprefix(f"{folder}/").split(";")[0]
    if lacks is None:
        return folder
    raise UserError(
        f"checkpoint {name}: {folder} is no whole checkpoint ({lacks}); if its download was interrupted, run "
        f"`python run_eval.py stage --checkpoint {name}` on a connected machine"
    )


def _repository(name: HubName) -> Path:
    return cache_folder() / (REPOSITORY + name.repository.replace("/", "--"))


def cache_folder() -> Path:
    """The folder of the hub's cache, as huggingface_hub has it (`HF_HOME` and `HF_HUB_CACHE`)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)
