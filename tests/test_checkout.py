"""A record names a commit only where the running code is that commit's checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.paths import LEADERBOARD, PUBLISHED, ROOT, require
from harness.records.machine import checkout_state
from harness.records.published import table_rows

IDENTITY = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository that tracks harness/machine.py."""
    folder = (tmp_path / "repository").resolve()
    place(folder)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, *IDENTITY, "commit", "-q", "-m", "first")
    return folder


def place(root: Path) -> Path:
    """The module below a root, as a copy or an installation puts it there."""
    file = root / "harness" / "machine.py"
    file.parent.mkdir(parents=True)
    file.write_text("code\n")
    return file


def test_a_checkout_names_its_commit_and_whether_it_was_edited(repository: Path) -> None:
    file = repository / "harness" / "machine.py"
    head = git(repository, "rev-parse", "HEAD")
    assert checkout_state(file, repository) == (head, False)
    file.write_text("edited\n")
    assert checkout_state(file, repository) == (head, True)


def test_a_worktree_names_its_own_commit(repository: Path, tmp_path: Path) -> None:
    tree = (tmp_path / "tree").resolve()
    git(repository, "worktree", "add", "-q", "--detach", str(tree))
    git(repository, *IDENTITY, "commit", "-q", "--allow-empty", "-m", "second")
    assert checkout_state(tree / "harness" / "machine.py", tree) == (git(tree, "rev-parse", "HEAD"), False)
    assert git(tree, "rev-parse", "HEAD") != git(repository, "rev-parse", "HEAD")


@pytest.mark.parametrize("below", ["venv/lib/site-packages", "vendored"])
def test_an_installation_below_another_repository_names_no_commit(repository: Path, below: str) -> None:
    root = repository / below
    assert checkout_state(place(root), root) == (None, None)


def test_an_installation_at_the_top_of_another_repository_names_no_commit(repository: Path) -> None:
    git(repository, "rm", "-q", "--cached", "-r", "harness")
    assert checkout_state(repository / "harness" / "machine.py", repository) == (None, None)


def test_a_folder_in_no_repository_and_a_repository_without_commits_name_none(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    file = place(root)
    assert checkout_state(file, root) == (None, None)
    git(root, "init", "-q")
    git(root, "add", ".")
    assert checkout_state(file, root) == (None, None)


def test_a_hook_of_another_repository_changes_nothing(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    root = (tmp_path / "installed").resolve()
    assert checkout_state(place(root), root) == (None, None)


def test_results_that_every_installation_has_are_missed_loudly(tmp_path: Path) -> None:
    assert require(PUBLISHED) == ROOT / "results" / "published"
    assert require(LEADERBOARD) == ROOT / "results" / "leaderboard"
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "none", tmp_path / "empty"):
        for read in (require, lambda folder: table_rows("gdn_paper.table_4", folder)):
            with pytest.raises(Exception, match="is missing or empty") as caught:
                read(folder)
            assert type(caught.value).__name__ == "UserError"
