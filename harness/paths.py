"""Where this project keeps what it ships."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ZOO = ROOT / "gdn2" / "zoo"
"""Checkpoints, a folder each."""
PUBLISHED = ROOT / "results" / "published"
"""Figures of papers, a YAML file a paper."""
LEADERBOARD = ROOT / "results" / "leaderboard"
"""Records of our own."""
