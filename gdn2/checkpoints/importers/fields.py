"""Reading a foreign config.json: every field at every depth is taken, known to change nothing, or refused by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from basis.errors import shown
from basis.names import listed
from gdn2.checkpoints.errors import CheckpointError
from gdn2.config_checks import MAX_SIZE, is_base_field

# Fields that say how to run, train or label, and nothing about what is computed.
HARMLESS = frozenset({"attention_dropout", "initializer_range", "use_cache"})
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
REQUIRED = object()
MAX_NUMBER = 1e9  # of numbers that are no count: above every base, ratio and factor
SHOWN = 8  # problems listed in an error


class Fields:
    """The fields of a config.json, or of an object inside it. Problems are collected, so that all can be named.

    Args:
        file: where they come from, for messages.
        values: the fields.
        whose: whose options these are, for messages.
        inside: the object that holds them, such as "rope_parameters."; empty at the top.
        problems: the list to which problems are added; that of the object around it.
    """

    def __init__(
        self,
        file: Path,
        values: Mapping[str, Any],
        whose: str,
        inside: str = "",
        problems: list[str] | None = None,
    ) -> None:
        self.file, self.whose, self.inside = file, whose, inside
        self._left = dict(values)
        self._problems: list[str] = [] if problems is None else problems
        self._inner: list[Fields] = []

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def is_null(self, name: str) -> bool:
        """Whether a field is there and null; it is left to be read."""
        return name in self._left and self._left[name] is None

    @property
    def empty(self) -> bool:
        """Whether nothing is left to be read."""
        return not self._left

    def take(self, name: str, default: Any = REQUIRED) -> Any:
        """Take a value of any type; `default` if it is not there."""
        if name not in self._left and default is REQUIRED:
            self.refuse(f"{self.inside}{name} is missing")
            return 1
        return self._left.pop(name, default)

    def number(self, name: str, default: Any = REQUIRED, *, positive: bool = True, null: bool = False) -> Any:
        """Take a finite number.

        Args:
            name: the field.
            default: what it is if it is not there; if this is None, the field may be null.
            positive: whether it must be above 0 (else it must not be below).
            null: whether the field may be null although its default is a number.

        Returns:
            The number; 1 if there is a problem, so that reading can go on.
        """
        value = self._number(name, default, null=null)
        if value is not None and (not math.isfinite(value) or value < 0 or (positive and not value)):
            bound = "above 0" if positive else "from 0 on"
            self.refuse(f"{self.inside}{name} = {shown(value)} must be a finite number {bound}")
            return 1
        if value is not None and value > MAX_NUMBER:
            self.refuse(f"{self.inside}{name} = {shown(value)} is too large")
            return 1
        return value

    def count(self, name: str, default: Any = REQUIRED, *, most: int = MAX_SIZE, null: bool = False) -> Any:
        """Take a whole number from 1 to `most`; as `number` otherwise."""
        value = self._number(name, default, null=null)
        if value is not None and (not isinstance(value, int) or not 1 <= value <= most):
            self.refuse(f"{self.inside}{name} = {shown(value)} must be a whole number from 1 to {most:,}")
            return 1
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Take a yes or no; null means no."""
        value = self.take(name, default)
        if value is not None and not isinstance(value, bool):
            self.refuse(f"{self.inside}{name} = {shown(value)} must be true or false")
        return value is True

    def only(self, name: str, *allowed: Any, default: Any, why: str = "") -> Any:
        """Take a value that must be one of `allowed`; anything else is an option that our model does not have."""
        value = self.take(name, default)
        if not any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in allowed):
            choices = " or ".join(repr(choice) for choice in allowed)
            self.refuse(f"{self.inside}{name} = {shown(value)} is not supported (only {choices}{why and ', ' + why})")
        return value

    def names(self, name: str) -> list[str] | None:
        """Take a list of words; None if it is not there or null."""
        value = self.take(name, None)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.refuse(f"{self.inside}{name} = {shown(value)} must be a list of words")
            return None
        return value

    def inner(self, name: str) -> Fields:
        """Take an object, whose fields must all be read too; without fields if it is not there or null."""
        value = self.take(name, None)
        if value is not None and not isinstance(value, dict):
            self.refuse(f"{self.inside}{name} = {shown(value)} must be an object")
        return self._open(name, value)

    def inner_list(self, name: str) -> list[Fields]:
        """Take a list of objects, or a single one; empty if it is not there, null, or empty."""
        value = self.take(name, None) or []
        values = [value] if isinstance(value, dict) else value
        if not isinstance(values, list) or not all(isinstance(item, dict) for item in values):
            self.refuse(f"{self.inside}{name} = {shown(value)} must be an object or a list of objects")
            return []
        return [self._open(name, item) for item in values]

    def refuse(self, problem: str) -> None:
        """Add a problem."""
        self._problems.append(problem)

    def harmless(self, *names: str) -> None:
        """Drop fields that do not change what is computed, whatever their value."""
        for name in names:
            self._left.pop(name, None)

    def skip(self) -> None:
        """Drop all that is left, where one problem says enough."""
        self._left.clear()

    def tokens(self) -> dict[str, Any]:
        """Take the ids of special tokens and whether the embedding is the head."""
        found: dict[str, Any] = {}
        for name in TOKENS:
            value = found[name] = self.take(name, None)
            ids = value if isinstance(value, list) and name == "eos_token_id" else [value]
            if not all(item is None or type(item) is int for item in ids):
                self.refuse(f"{self.inside}{name} = {shown(value)} must be the id of a token")
        return {**found, "tie_word_embeddings": self.flag("tie_word_embeddings", False)}

    def finish(self) -> None:
        """See that every field has been read.

        Raises:
            CheckpointError: with all problems.
        """
        self._refuse_unread()
        if self._problems:
            found = listed(self._problems, SHOWN, "; ")
            raise CheckpointError(
                f"{self.file}: options of {self.whose} that this importer does not have: {found}; "
                "remove a field only if it changes nothing in what the model computes"
            )

    def _number(self, name: str, default: Any, *, null: bool) -> Any:
        value = self.take(name, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or (isinstance(value, int) and abs(value) >= 10**300):
            if value is None and (null or default is None):
                return None
            self.refuse(f"{self.inside}{name} = {shown(value)} is no number")
            return 1
        return value

    def _open(self, name: str, value: Any) -> Fields:
        fields = value if isinstance(value, dict) else {}
        opened = Fields(self.file, fields, self.whose, f"{self.inside}{name}.", self._problems)
        self._inner.append(opened)
        return opened

    def _refuse_unread(self) -> None:
        for inner in self._inner:
            inner._refuse_unread()
        for name in sorted(self._left):
            value = self._left[name]
            if self.inside or not (name in HARMLESS or is_base_field(name, value)):
                self.refuse(f"{self.inside}{name} = {shown(value)} is not known")
