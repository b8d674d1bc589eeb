"""The wheel in an empty virtual environment, used from an empty folder that lies in somebody else's repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ruler_data import write_ruler_data

from basis.version import VERSION

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (
    "basis",
    "gdn2",
    "harness",
    "tasks",
    "results/published",
    "results/leaderboard",
    "pyproject.toml",
    "setup.py",
    "README.md",
    "LICENSE",
)
OFFLINE = ("--no-deps", "--no-index")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that no build folder appears in the checkout."""
    folder = tmp_path_factory.mktemp("build")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    run(sys.executable, "-m", "pip", "wheel", "-q", folder, *OFFLINE, "--no-build-isolation", "-w", folder / "dist")
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment's folder of commands; it lies in a repository with a commit. What the package depends on is
    taken from where these tests run, what is installed there in editable form is not: such .pth files do not nest."""
    foreign = tmp_path_factory.mktemp("foreign")
    commit(foreign)
    run(sys.executable, "-m", "venv", "--without-pip", foreign / "venv")
    (site,) = (foreign / "venv" / "lib").glob("python*/site-packages")
    dependencies = [path for path in sys.path if path.endswith("-packages")]
    (site / "dependencies.pth").write_text("".join(f"{path}\n" for path in dependencies))
    commands = foreign / "venv" / "bin"
    install = ("--python", commands / "python", "install", "-q", "--force-reinstall", *OFFLINE)
    run(sys.executable, "-m", "pip", *install, wheel)
    return commands


def run(*command: str | Path, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TRITON_INTERPRET")}
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=cwd, env={**environment, **variables}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def commit(folder: Path) -> None:
    """A repository with one commit of one file."""
    (folder / "file.txt").write_text("somebody else's\n")
    run("git", "init", "-q", folder)
    run("git", "-C", folder, "add", "file.txt")
    identity = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    run("git", "-C", folder, *identity, "commit", "-q", "-m", "theirs")


def test_quick_runs_from_an_empty_folder_and_prints_our_row_and_the_published_ones(
    installed: Path, tmp_path: Path
) -> None:
    data = write_ruler_data(tmp_path / "data")
    paragraph = {"title": "A hill", "text": "It is a hill in the north, and nobody has climbed it."}
    (data / "wiki_heldout.jsonl").write_text(json.dumps(paragraph) + "\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    variables = {
        "GDN2_DATA": str(data),
        "GDN2_CACHE": str(tmp_path / "cache"),
        "COLUMNS": "200",
        "OMP_NUM_THREADS": "1",
    }
    done = run(installed / "gdn2-eval", "run", "gdn2-tiny", "--samples", "1", cwd=empty, **variables)
    assert "gdn2-tiny" in done.stdout
    assert "Gated DeltaNet-2" in done.stdout, "published rows"
    (record,) = empty.glob("results/runs/gdn2-tiny/*/record.json")
    written = json.loads(record.read_text())
    assert len(written["cells"]) == 8
    assert (written["git_commit"], written["git_dirty"]) == (None, None), "the commit of somebody else's repository"
    assert written["packages"]["gdn2"] == VERSION


def test_the_leaderboard_has_the_shipped_record_and_the_published_rows(installed: Path, tmp_path: Path) -> None:
    page = run(installed / "gdn2-eval", "leaderboard", "--format", "markdown", cwd=tmp_path).stdout
    assert "| gdn2-4m | 95.0" in page
    assert "| Gated DeltaNet-2 | " in page


def test_messages_name_the_command_that_was_called(installed: Path, tmp_path: Path) -> None:
    run(installed / "gdn2-eval", "tasks", "new", "codes", cwd=tmp_path)
    assert "#   gdn2-eval tasks check codes.yaml" in (tmp_path / "codes.yaml").read_text()
    assert run(installed / "gdn2-eval", "--version").stdout == f"gdn2 {VERSION}\n"
    assert "usage: gdn2-eval" in run(installed / "gdn2-eval", "--help").stdout


def test_the_wheel_holds_every_file_of_the_packages_and_the_results_and_no_other_top_level(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {name for name in names if ".dist-info/" not in name}
    wanted = set()
    for package in ("basis", "gdn2", "harness", "tasks"):
        files = [path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        wanted |= {path.relative_to(ROOT).as_posix() for path in files}
    wanted -= {"gdn2/README.md"}  # a page about the sources
    for name in ("published", "leaderboard"):
        files = [path for path in (ROOT / "results" / name).rglob("*") if path.is_file()]
        wanted |= {"harness/shipped/" + path.relative_to(ROOT / "results").as_posix() for path in files}
    assert ours == wanted
