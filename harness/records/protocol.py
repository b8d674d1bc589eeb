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
from harness.records.fields import Count, Name, Positive

PACKAGES = ("torch", "transformers", "tokenizers", "lm_eval", "datasets", "safetensors", "numpy", "wonderwords")
LATER_CHOICES = {"spec": None, "shots": 0, "stops_at_references": False}
"""Of a task's protocol: what protocols once did not have, and what they meant by it."""


@dataclass(frozen=True, kw_only=True)
class TaskProtocol:
    """One task as it is run.

    Attributes:
        name: without length, such as `niah_single_1`.
        length: tokens of prompt and generation together; None for tasks without a length.
        version: the task's, of its YAML; None, here and where this is said below, in records that were added and do not
            say.
        samples: documents asked for, None for all.
        seed: of the documents; None where unknown.
        max_length: tokens beyond which a request loses its beginning; None where unknown.
        generator: how documents are made; None where they are read from a data set.
        generation: lm-eval's settings of generation.
        data: SHA-256 of the files that it reads; None where unknown.
        spec: what identifies the definition of a task of the user's own; None for ours.
        shots: solved examples in front of a question, as lm-eval draws them (seed 1234); None where unknown.
        stops_at_references: whether a generation may end when every reference has appeared.
    """

    name: Name
    length: Positive | None
    version: float | None
    samples: Positive | None
    seed: int | None
    max_length: Positive | None
    generator: str | None
    generation: Mapping[str, Any]
    data: Mapping[str, str] | None
    spec: str | None = None
    shots: Count | None = 0
    stops_at_references: bool = False

    @property
    def label(self) -> str:
        """`niah_single_1@1024`."""
        return self.name + (f"@{self.length}" if self.length is not None else "")

    def as_dict(self) -> dict[str, Any]:
        """For JSON; choices that protocols once did not have are written only where they were made."""
        plain = asdict(self)
        for name in LATER_CHOICES:
            if plain[name] == LATER_CHOICES[name]:
                del plain[name]
        return plain


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """All that fixes a run's numbers, apart from the model.

    Attributes:
        suite: its name; `tasks` where tasks were named instead.
        tasks: in the order of the run.
        context_prefix: the name of what comes before every context.
        dtype: what the model runs in.
        tokenizer_sha256: fingerprint of the tokenizer.
        lm_eval: version.
        decoding: how tokens are chosen.
        further_end_ids: ids that end a generation besides the tokenizer's end of text, as config or
            generation_config.json say.
    """

    suite: str
    tasks: tuple[TaskProtocol, ...]
    context_prefix: str
    dtype: str
    tokenizer_sha256: str
    lm_eval: str
    decoding: str = "greedy"
    further_end_ids: tuple[int, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it: lists, no tuples."""
        tasks = [task.as_dict() for task in self.tasks]
        plain: dict[str, Any] = json.loads(json.dumps({**asdict(self), "tasks": tasks}))
        if not plain["further_end_ids"]:  # as most models have it
            del plain["further_end_ids"]
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
