"""The names of RULER's generators. Imports nothing: the command line lists them."""

from __future__ import annotations

from typing import Any

from basis.names import must_be_one_of
from tasks.errors import TaskError

GENERATORS = ("exact", "nvidia", "nvidia-26.3", "lm-eval")
DEFAULT_SEEDS = {"exact": 42, "nvidia": 42, "nvidia-26.3": 42, "lm-eval": 0}
"""The seed of each when nobody says otherwise."""
VERSIONS = {"exact": 3, "nvidia": 2, "nvidia-26.3": 2, "lm-eval": 2}
"""Counted up when a generator's samples change, so that stored ones are not taken for the new ones."""


def check_generator(name: Any, where: str) -> str:
    """The name of a generator, if it is one. Raises TaskError that lists them."""
    if name not in GENERATORS:
        raise TaskError(f"{where}: generator {must_be_one_of(GENERATORS, name)}")
    return str(name)
