"""What a task is: as it is listed, and as it is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import families
from tasks.families import Family

PREFIX = "gdn2_"
"""The beginning of the names that lm-eval knows our tasks by."""
OVERSHOOT = 64
"""Tokens by which a prompt of the official generators can exceed its length: BOS, and an answer prefix not counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskInfo:
    """One task as listed."""

    name: str
    family: str
    """The family's name; a file of the user's may say any."""
    builder: str
    """The dotted name of the function that makes or reads its documents."""
    lengths: tuple[int, ...]
    """Shipped lengths in tokens; empty for a task without a length."""
    metric: str
    """The metric that tables show by default."""
    metrics: tuple[str, ...]
    description: str
    data: tuple[str, ...]
    """Names of the staged files that it reads."""
    samples: int | None
    """Documents by default; None: all that the data set has."""
    file: Path
    is_own: bool = False
    """Whether a file of the user's defines it."""
    examples: str | None = None
    """The staged file that solved examples are drawn from; None: the task takes none."""
    room: tuple[int, int] = (1, 0)
    """A request has at most room[0] times the task's length plus room[1] tokens."""

    @property
    def built_as(self) -> Family:
        """The family that makes its documents, whatever name a user's file gives to its family."""
        return families.built_by(self.builder) or families.named(self.family)

    @property
    def has_length(self) -> bool:
        """Whether the task is defined at any length."""
        return bool(self.lengths)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedTask:
    """One task ready for lm-eval: `config` goes into the list that `simple_evaluate(tasks=[...])` takes."""

    info: TaskInfo
    length: int | None
    samples: int | None
    seed: int
    lm_eval_name: str
    config: dict[str, Any]

    @property
    def metrics(self) -> tuple[str, ...]:
        """What it is scored by at its length."""
        return tuple(entry["metric"] for entry in self.config["metric_list"])

    @property
    def max_length(self) -> int:
        """Tokens of prompt and generation that a request may have; 0 for a task without a length."""
        lengths, tokens = self.info.room
        tokens += 0 if self.generator in (None, "exact") else OVERSHOOT
        return self.length * lengths + tokens if self.length is not None else 0

    @property
    def shots(self) -> int:
        """Solved examples in front of a question."""
        return int(self.config.get("num_fewshot") or 0)

    @property
    def data(self) -> tuple[str, ...]:
        """Names of the staged files that it reads, those of solved examples included."""
        return (*self.info.data, *([self.info.examples] if self.info.examples and self.shots else []))

    @property
    def generator(self) -> str | None:
        """How the samples are made, for a task whose family lets one choose (RULER's); None for other tasks."""
        spec = self.config["dataset_kwargs"]["spec"]
        return str(spec.get("generator", "exact")) if self.info.built_as.generators else None

    @property
    def recorded_generator(self) -> str | None:
        """How the documents are made, as records say it; None for tasks over real documents."""
        made = self.info.has_length and families.named(self.info.family).makes_documents
        return (self.generator or "exact") if made else None
