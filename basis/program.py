"""What the command line is called, so that messages name a command that exists."""

from __future__ import annotations

import sys
from pathlib import Path

IN_A_CHECKOUT = "python run_eval.py"
"""How messages and documentation write it."""
INSTALLED = "gdn2-eval"
"""The console command of an installed package."""


def program() -> str:
    """The command line's name as it was called; `run_eval.py` where it was called otherwise, by a test or a script."""
    return INSTALLED if Path(sys.argv[0]).stem == INSTALLED else IN_A_CHECKOUT.rpartition(" ")[2]


def as_called(text: str) -> str:
    """A text whose commands are written as the user would type them here.

    Args:
        text: any message; commands in it begin with `python run_eval.py`.
    """
    return text.replace(IN_A_CHECKOUT, INSTALLED) if program() == INSTALLED else text
