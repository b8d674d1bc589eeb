"""What a memory-editing task is: its probe, keys, edits, distance and haystack, checked strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from basis.names import must_be_one_of, way_out
from tasks.errors import TaskError
from tasks.limits import MOST_NEEDLES, number_problem
from tasks.problems import Problem, problem_of
from tasks.text.haystack import HaystackKind
from tasks.text.kinds import SimpleKind

Probe = Literal["overwrite", "retention", "forget", "recall"]
POSITIVE = ("length", "keys", "edited", "updates", "queries", "samples")
CHOICES = {
    "probe": get_args(Probe),
    "haystack": get_args(HaystackKind),
    "key": get_args(SimpleKind),
    "value": get_args(SimpleKind),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class EditSpec:
    """One memory-editing task at one length, as `dataset_kwargs: spec:` of a YAML says it."""

    task: str
    probe: Probe
    length: int
    """Tokens: context prefix, model input and 48 generated tokens."""
    haystack: HaystackKind = "essay"
    key: SimpleKind = "words"
    value: SimpleKind = "numbers"
    keys: int = 4
    """Keys of a document, each with a value of its own."""
    edited: int | None = None
    """How many keys are rewritten (retention) or withdrawn (forget); by default half of them."""
    updates: int = 1
    """How often an edited key is rewritten, each time to a new value."""
    queries: int = 1
    """How many documents in a row ask about the same associations (recall)."""
    distance: int | None = None
    """Tokens from the last edit that matters to the question; None spreads the statements over the whole context."""
    power: float = 0.01
    """Exponent of the distances of `recall` without `distance`, as Zoology's power_a."""
    samples: int = 500
    seed: int = 42

    @property
    def num_edited(self) -> int:
        """Keys that are edited: all of them where the last value is asked, none where nothing changes."""
        if self.probe == "overwrite":
            return self.keys
        if self.probe == "recall":
            return 0
        return self.keys // 2 if self.edited is None else self.edited

    @property
    def value_name(self) -> str:
        """What a value is called: number, word or uuid."""
        return self.value.removesuffix("s")

    @classmethod
    def parse_all(cls, spec: Mapping[str, Any]) -> list[EditSpec]:
        """One spec for each of `lengths`, or the one of `length`. Raises TaskError that names the field."""
        if "lengths" not in spec or "length" in spec:
            return [cls.parse(spec)]
        lengths = spec["lengths"]
        if not isinstance(lengths, list) or not lengths:
            raise TaskError(f"spec: field 'lengths' must be a list of lengths in tokens, got {lengths!r}")
        rest = {name: value for name, value in spec.items() if name != "lengths"}
        return [cls.parse({**rest, "length": length}) for length in lengths]

    @classmethod
    def parse(cls, spec: Mapping[str, Any]) -> EditSpec:
        """Check a mapping from YAML. Raises TaskError that names the field."""
        known = [field.name for field in fields(cls)]
        for name in spec:
            if name not in known:
                raise TaskError(f"spec: unknown field {name!r}; {way_out(name, known)}")
        for name in ("task", "probe", "length"):
            if name not in spec:
                raise TaskError(f"spec: field {name!r} is missing")
        for name, value in spec.items():
            _check_value(name, value)
        parsed = cls(**spec)
        parsed._check_together()
        return parsed

    def _check_together(self) -> None:
        """Fields that depend on others."""
        for name, probes in (
            ("edited", ("retention", "forget")),
            ("updates", ("overwrite", "retention")),
            ("queries", ("recall",)),
        ):
            if getattr(self, name) not in (None, 1) and self.probe not in probes:
                raise TaskError(f"spec: field {name!r} has no meaning for probe {self.probe!r}, only for {probes}")
        if self.probe in ("retention", "forget") and not 1 <= self.num_edited < self.keys:
            raise TaskError(
                f"spec: field 'edited' must leave one of the {self.keys} keys as it is, got {self.num_edited}"
            )
        if (statements := self.keys * (1 + self.updates)) > min(MOST_NEEDLES, self.length):
            raise TaskError(
                f"spec: field 'keys': {statements:,} statements (keys x (1 + updates)) are more than the "
                f"{min(MOST_NEEDLES, self.length):,} that may stand in {self.length:,} tokens"
            )
        if self.queries > self.keys:
            raise TaskError(
                f"spec: field 'queries' must be at most the number of keys, {self.keys}, got {self.queries}"
            )
        if self.probe == "forget" and self.samples % 2:
            raise TaskError(
                f"spec: field 'samples' must be even, got {self.samples}: documents of probe 'forget' come in pairs, "
                "one asks the withdrawn key and one a kept key"
            )


def problems_of(spec: Mapping[str, Any], _folder: Path) -> list[Problem]:
    """The first thing that is wrong with the spec of a user's file."""
    try:
        EditSpec.parse_all(spec)
    except TaskError as error:
        return [problem_of(error)]
    return []


def _check_value(name: str, value: Any) -> None:
    if value is None and name in ("edited", "distance"):
        return
    if name in CHOICES and value not in CHOICES[name]:
        raise TaskError(f"spec: field {name!r} {must_be_one_of(CHOICES[name], value)}")
    if name in POSITIVE and (type(value) is not int or value < 1):
        raise TaskError(f"spec: field {name!r} must be a positive whole number, got {value!r}")
    if name == "seed" and type(value) is not int:
        raise TaskError(f"spec: field 'seed' must be a whole number, got {value!r}")
    if name in ("length", "samples", "seed") and (problem := number_problem(name, value)):
        raise TaskError(f"spec: field {name!r} {problem}")
    if name == "distance" and (type(value) is not int or value < 0):
        raise TaskError(f"spec: field 'distance' must be a number of tokens, 0 or more, got {value!r}")
    if name == "power" and (type(value) not in (int, float) or not 0 < value <= 1):
        raise TaskError(f"spec: field 'power' must lie above 0 and be at most 1 (1: uniform), got {value!r}")
