"""What a needle task is: its variant (haystack, keys, values), length, samples and seed, checked strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

from tasks.errors import TaskError
from tasks.ruler import words
from tasks.ruler.haystack import HaystackKind

DEPTHS = tuple(round(step * 100 / 39) for step in range(40))
"""Percent; RULER's list of 40 depths."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """What distinguishes one needle task from another."""

    haystack: HaystackKind
    key: words.Kind = "words"
    value: words.Kind = "numbers"
    needles: int = 1


VARIANTS = {
    "niah_single_1": Variant(haystack="noise"),
    "niah_single_2": Variant(haystack="essay"),
    "niah_single_3": Variant(haystack="essay", value="uuids"),
    "niah_multikey_1": Variant(haystack="essay", needles=4),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class NiahSpec:
    """One needle task at one length, as `dataset_kwargs: spec:` of a YAML says it."""

    task: str
    """A name of VARIANTS, or a new name together with `haystack` (and `key`, `value`, `needles`)."""
    length: int
    """Tokens: context prefix, model input and 128 generated tokens."""
    variant: Variant
    samples: int = 500
    seed: int = 42

    @classmethod
    def parse(cls, spec: Mapping[str, Any]) -> NiahSpec:
        """Check a mapping from YAML. Raises TaskError that names the field."""
        own = {field.name for field in fields(cls)} - {"variant"}
        axes = {field.name for field in fields(Variant)}
        for name in spec:
            if name not in own | axes:
                raise TaskError(f"spec: unknown field {name!r}; known: {', '.join(sorted(own | axes))}")
        for name in ("task", "length"):
            if name not in spec:
                raise TaskError(f"spec: field {name!r} is missing")
        for name in ("length", "samples", "seed", "needles"):
            value = spec.get(name, 1)
            if type(value) is not int or (value < 1 and name != "seed"):
                raise TaskError(f"spec: field {name!r} must be a positive whole number, got {value!r}")
        task = str(spec["task"])
        return cls(variant=_variant(task, spec, axes), **{name: spec[name] for name in own if name in spec})


def _variant(task: str, spec: Mapping[str, Any], axes: set[str]) -> Variant:
    given = {name: spec[name] for name in axes if name in spec}
    if task in VARIANTS:
        if given:
            raise TaskError(
                f"spec: {task!r} fixes {', '.join(sorted(given))}; give the task another name to change them"
            )
        return VARIANTS[task]
    if "haystack" not in given:
        raise TaskError(f"spec: task {task!r} is not one of {', '.join(VARIANTS)}; a new one needs `haystack`")
    kinds = get_args(words.Kind)
    allowed = {"haystack": get_args(HaystackKind), "key": kinds, "value": kinds}
    for name, choices in allowed.items():
        if name in given and given[name] not in choices:
            raise TaskError(f"spec: field {name!r} must be one of {', '.join(choices)}, got {given[name]!r}")
    if given.get("needles", 1) > len(DEPTHS):
        raise TaskError(f"spec: field 'needles' must be at most {len(DEPTHS)}, got {given['needles']}")
    return Variant(**given)
