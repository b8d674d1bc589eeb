"""Reading a foreign config.json: every field is taken, known to change nothing, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PreTrainedConfig

from gdn2.checkpoints.errors import CheckpointError
from gdn2.config import TRANSFORMERS_FIELDS

# Fields that say how to run, train or label, and nothing about what is computed.
HARMLESS = frozenset(
    {
        "attention_dropout",
        "initializer_range",
        "transformers_version",
        "use_bfloat16",
        "use_cache",
        *TRANSFORMERS_FIELDS,
    }
) - {"quantization_config"}
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
REQUIRED = object()


class Fields:
    """The fields of a config.json. Problems are collected, so that `finish` can name all of them.

    Args:
        file: where they come from, for messages.
        values: the fields.
        whose: whose options these are, for messages.
    """

    def __init__(self, file: Path, values: Mapping[str, Any], whose: str) -> None:
        self.file, self.whose = file, whose
        self._left = dict(values)
        self._problems: list[str] = []

    def take(self, name: str, default: Any = REQUIRED) -> Any:
        """The value; `default` if it is not there."""
        if name not in self._left and default is REQUIRED:
            self._problems.append(f"{name} is missing")
            return 1
        return self._left.pop(name, default)

    def number(self, name: str, default: Any = REQUIRED) -> Any:
        """The value, which must be a number (or None, if that is the default)."""
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            if value is None and default is None:
                return None
            self._problems.append(f"{name} = {value!r} is no number")
            return 1
        return value

    def only(self, name: str, *allowed: Any, default: Any, why: str = "") -> Any:
        """The value, which must be one of `allowed`; anything else is an option that our model does not have."""
        value = self.take(name, default)
        if value not in allowed:
            choices = " or ".join(repr(choice) for choice in allowed)
            self._problems.append(f"{name} = {value!r} is not supported (only {choices}{why and ', ' + why})")
        return value

    def refuse(self, problem: str) -> None:
        """Add a problem."""
        self._problems.append(problem)

    def harmless(self, *names: str) -> None:
        """Fields that do not change what is computed."""
        for name in names:
            self._left.pop(name, None)

    def tokens(self) -> dict[str, Any]:
        """The ids of special tokens and whether the embedding is the head: as they are."""
        found = {name: self.take(name, None) for name in TOKENS}
        return {**found, "tie_word_embeddings": bool(self.take("tie_word_embeddings", False))}

    def finish(self) -> None:
        """Every field must have been read.

        Raises:
            CheckpointError: with all problems.
        """
        known = HARMLESS | set(GenerationConfig._get_default_generation_params()) | set(PreTrainedConfig().to_dict())
        for name in sorted(set(self._left) - known):
            self._problems.append(f"{name} = {self._left[name]!r} is not known")
        if self._problems:
            raise CheckpointError(
                f"{self.file}: options of {self.whose} that this importer does not have: {'; '.join(self._problems)}; "
                "remove a field only if it changes nothing in what the model computes"
            )
