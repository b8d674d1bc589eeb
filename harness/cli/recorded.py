"""Where the commands about recorded runs look for them, and how they say what they go without."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.paths import LEADERBOARD, require

if TYPE_CHECKING:
    from harness.analysis.selection import FoundRun

RUNS = Path("results/runs")


def add_results_option(parser: argparse.ArgumentParser) -> None:
    """Add `--results`, which says where to look."""
    parser.add_argument(
        "--results", type=Path, nargs="+", help="folders of records (default: results/leaderboard, runs)"
    )


def result_folders(given: Sequence[Path] | None) -> list[Path]:
    """The folders of `--results`; without it, what is shipped and the user's own runs.

    Raises:
        UserError: this installation lacks what is shipped.
    """
    return list(given) if given else existing((require(LEADERBOARD), RUNS))


def recorded_runs(given: Sequence[Path] | None) -> list[FoundRun]:
    """The runs below the folders of `--results`; what cannot be read is named on standard error.

    Raises:
        UserError: a folder that does not exist.
    """
    from harness.analysis.selection import find_runs

    return find_runs(result_folders(given), left_out)


def left_out(problem: str) -> None:
    """Say on standard error what a table, a page or a picture goes without."""
    from harness.show.plain import plain

    print(f"left out: {plain(problem)}", file=sys.stderr)


def existing(folders: Sequence[Path]) -> list[Path]:
    """The folders that exist, none inside another's tree twice."""
    found: list[Path] = []
    for folder in folders:
        if folder.is_dir() and not any(folder.resolve().is_relative_to(other.resolve()) for other in found):
            found.append(folder)
    return found
