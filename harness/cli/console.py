"""The terminal that commands print to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console(stderr: bool = False) -> Console:
    """A console for results, or for progress and notes on standard error."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)
