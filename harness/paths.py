"""Where this project keeps what it ships: beside harness/ in a checkout, inside it where a wheel was installed."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds the packages: the top of a checkout, or site-packages."""
ZOO = ROOT / "gdn2" / "zoo"
"""Checkpoints, a folder each."""
_SHIPPED = Path(__file__).resolve().with_name("shipped")  # made by setup.py, only in wheels
_RESULTS = _SHIPPED if _SHIPPED.is_dir() else ROOT / "results"
STUDIES = ROOT / "tasks" / "studies"
"""Studies, a YAML file each."""
PUBLISHED = _RESULTS / "published"
"""Figures of papers, a YAML file a paper."""
LEADERBOARD = _RESULTS / "leaderboard"
"""Records of our own."""


def require(folder: Path) -> Path:
    """The folder itself, when it is there.

    Args:
        folder: one that every installation has, such as PUBLISHED.

    Raises:
        UserError: it is missing, so that a table would lack its rows without a word.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        raise UserError(
            f"{folder} is missing or empty; every checkout and every wheel has it, so this installation is incomplete: "
            "install the package again, or run from a whole checkout"
        )
    return folder
