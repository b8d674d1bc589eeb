"""Which of our tasks a task of lm-eval is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.errors import TaskError
from tasks.registry import list_tasks, resolve

PREFIX = "gdn2_"
FAMILY = "commonsense"
"""Its tasks are lm-eval's own, under lm-eval's names."""
RULER = {
    **{f"niah_{kind}": f"niah_{kind}" for kind in ("multiquery", "multivalue")},
    **{f"niah_{kind}_{number}": f"niah_{kind}_{number}" for kind in ("single", "multikey") for number in (1, 2, 3)},
    **{f"ruler_{name}": name for name in ("vt", "cwe", "fwe")},
    "ruler_qa_squad": "qa_1",
    "ruler_qa_hotpot": "qa_2",
}
"""lm-eval's RULER tasks: lengths are their metrics."""


@dataclass(frozen=True)
class Known:
    """What a task of lm-eval is here.

    Attributes:
        name: of our task; `lm-eval/NAME` for another task that happens to have the name of one of ours.
        length: tokens; None for tasks without a length, and of RULER's, whose metrics say it.
        seed: of the documents; None where unknown.
        generator: of the documents; None where they are read from a data set, or unknown.
        by_length: whether the names of its metrics are lengths.
    """

    name: str
    length: int | None = None
    seed: int | None = None
    generator: str | None = None
    by_length: bool = False


def known_task(name: str, config: Mapping[str, Any]) -> Known:
    """Find out which of our tasks a task of lm-eval is.

    Args:
        name: lm-eval's.
        config: as its result file has it; our own tasks' says seed and generator.
    """
    if name in RULER:
        return Known(RULER[name], generator="lm-eval", by_length=True)
    if name.startswith(PREFIX):
        try:
            task = resolve(name)
        except TaskError:
            return Known(name)
        arguments = config.get("dataset_kwargs")
        spec = arguments.get("spec") if isinstance(arguments, dict) else None
        said: Mapping[str, Any] = spec if isinstance(spec, dict) else {}
        seed, generator = said.get("seed"), said.get("generator", task.recorded_generator if said else None)
        return Known(
            task.info.name,
            task.length,
            seed if type(seed) is int else None,
            generator if isinstance(generator, str) else None,
        )
    ours = {info.name: info.family for info in list_tasks()}
    return Known(name if ours.get(name, FAMILY) == FAMILY else f"lm-eval/{name}")
