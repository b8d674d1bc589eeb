"""The protocol of a run: what fixes the meaning of its numbers, and the hash that names it.

In the hash: suite and tasks (versions, lengths, samples, seeds, generators, shots), data, context prefix, window,
tokenizer, dtype, greedy decoding, ends of text besides the tokenizer's, and the version of lm-eval. Not in it, because
results do not depend on them: batch size, device, threads, and the versions of other packages; the record lists those.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from basis.version import VERSION

PACKAGES = ("torch", "transformers", "tokenizers", "lm_eval", "datasets", "safetensors", "numpy", "wonderwords")


@dataclass(frozen=True, kw_only=True)
class TaskProtocol:
    """One task as it is run."""

    name: str
    length: int | None
    version: float
    samples: int | None
    seed: int
    max_length: int
    generator: str | None
    generation: Mapping[str, Any]
    data: Mapping[str, str]
    spec: str | None = None
    """What identifies the definition of a task of the user's own; not written for ours."""
    shots: int = 0
    """Solved examples in front of a question, as lm-eval draws them (seed 1234)."""
    stops_at_references: bool = False
    """Whether a generation may end when every reference has appeared."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """All that fixes a run's numbers, apart from the model."""

    suite: str
    tasks: tuple[TaskProtocol, ...]
    context_prefix: str
    dtype: str
    tokenizer_sha256: str
    lm_eval: str
    decoding: str = "greedy"
    further_end_ids: tuple[int, ...] = ()
    """Ids that end a generation besides the tokenizer's end of text, as config or generation_config.json say."""

    def as_dict(self) -> dict[str, Any]:
        """As it stands in JSON: lists, no tuples."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        if not plain["further_end_ids"]:  # as most models have it
            del plain["further_end_ids"]
        for task in plain["tasks"]:
            if task["spec"] is None:
                del task["spec"]
            for choice in ("shots", "stops_at_references"):
                if not task[choice]:  # as in protocols from before there was a choice
                    del task[choice]
        return plain

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON; tables and folders show its first eight digits."""
        return digest(self.as_dict())


def digest(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """SHA-256 of the canonical JSON of a value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def package_versions() -> dict[str, str]:
    """Versions of what takes part in a result; ours is that of the running code, not of an installed one."""
    found = {"gdn2": VERSION}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
