"""Choose documents by seed: the same seed gives the same order, and fewer samples are a prefix of more."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from basis.names import way_out
from tasks.errors import TaskError

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True, slots=True)
class SubsetSpec:
    """`dataset_kwargs: spec:` of tasks that draw from a staged file."""

    samples: int | None
    """None: all."""
    seed: int = 42

    @classmethod
    def parse(cls, spec: Mapping[str, Any]) -> SubsetSpec:
        """Check a mapping from YAML. Raises TaskError that names the field."""
        known = [field.name for field in fields(cls)]
        for name, value in spec.items():
            if name not in known:
                raise TaskError(f"spec: unknown field {name!r}; {way_out(name, known)}")
            if name == "samples" and value is None:
                continue
            if type(value) is not int or (name == "samples" and value < 1):
                raise TaskError(f"spec: field {name!r} must be a positive whole number, got {value!r}")
        if "samples" not in spec:
            raise TaskError("spec: field 'samples' is missing")
        return cls(**spec)


def choose(task: str, items: Sequence[Item], spec: SubsetSpec, max_samples: int | None = None) -> list[Item]:
    """The first `samples` items (at most `max_samples`) in an order drawn from the task's name and the seed."""
    rng = random.Random(hashlib.sha256(f"{task}|{spec.seed}".encode()).digest())
    order = rng.sample(range(len(items)), len(items))
    limits = [limit for limit in (spec.samples, max_samples) if limit is not None]
    return [items[index] for index in order[: min(limits, default=None)]]


def text_hash(*parts: str) -> str:
    """What identifies a sample: 16 hex digits over its texts."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def text_cluster(row: Mapping[str, Any]) -> str | None:
    """Tell the rows of a data set apart by the text that they ask about.

    Args:
        row: as data sets have it: with a passage, a context or a goal (PIQA), with the name of a source of which it is
            a part (HellaSwag), or with a text that ends in the key that is asked.

    Returns:
        16 hex digits, equal for questions about one text, which are not independent; None where a row has no such text.
    """
    for name in ("passage", "context", "goal", "source_id"):
        if isinstance(row.get(name), str) and row[name].strip():
            return text_hash(row[name].partition("\nQuestion:")[0].strip())
    if isinstance(row.get("text"), str) and isinstance(row.get("key"), str):
        return text_hash(row["text"].strip().removesuffix(f"{row['key']}:").strip())
    return None
