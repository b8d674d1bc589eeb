"""What a task of RULER is: generator, length, samples and seed; of a needle task also its variant. Checked strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from basis.names import must_be_one_of, way_out
from tasks.errors import TaskError
from tasks.limits import number_problem
from tasks.problems import Problem, problem_of
from tasks.ruler.generators import check_generator
from tasks.ruler.templates import DEPTHS, OTHER_TASKS, needle_template
from tasks.text.haystack import HaystackKind
from tasks.text.kinds import SimpleKind

ContextKind = HaystackKind | Literal["needle"]
"""Repeated noise, essays, or other needles: distractors."""
CONTEXT_KINDS = (*get_args(HaystackKind), "needle")


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """What distinguishes one needle task from another."""

    haystack: ContextKind
    key: SimpleKind = "words"
    value: SimpleKind = "numbers"
    needles: int = 1
    """Keys."""
    values: int = 1
    """Values of each key; every value has a needle of its own."""
    queries: int = 1
    """Keys that are asked for."""

    @property
    def num_needles(self) -> int:
        """Needles in the haystack."""
        return self.needles * self.values

    @property
    def num_answers(self) -> int:
        """Values that are asked for."""
        return self.queries * self.values


VARIANTS = {
    "niah_single_1": Variant(haystack="noise"),
    "niah_single_2": Variant(haystack="essay"),
    "niah_single_3": Variant(haystack="essay", value="uuids"),
    "niah_multikey_1": Variant(haystack="essay", needles=4),
    "niah_multikey_2": Variant(haystack="needle"),
    "niah_multikey_3": Variant(haystack="needle", key="uuids", value="uuids"),
    "niah_multivalue": Variant(haystack="essay", values=4),
    "niah_multiquery": Variant(haystack="essay", needles=4, queries=4),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RulerSpec:
    """One task at one length, as `dataset_kwargs: spec:` of a YAML says it."""

    task: str
    """A name of VARIANTS or OTHER_TASKS, or a new name together with `haystack` (and other axes of Variant)."""
    length: int
    """Tokens: context prefix, model input and generated tokens."""
    variant: Variant | None = None
    """Of a needle task."""
    samples: int = 500
    seed: int = 42
    generator: str = "exact"

    @classmethod
    def parse(cls, spec: Mapping[str, Any]) -> RulerSpec:
        """Check a mapping from YAML. Raises TaskError that names the field."""
        own = {field.name for field in fields(cls)} - {"variant"}
        axes = {field.name: field for field in fields(Variant)}
        for name in spec:
            if name not in own | set(axes):
                raise TaskError(f"spec: unknown field {name!r}; {way_out(name, sorted(own | set(axes)))}")
        for name in ("task", "length"):
            if name not in spec:
                raise TaskError(f"spec: field {name!r} is missing")
        for name in ("length", "samples", "seed", "needles", "values", "queries"):
            value = spec.get(name, 1)
            if type(value) is not int or (value < 1 and name != "seed"):
                raise TaskError(f"spec: field {name!r} must be a positive whole number, got {value!r}")
            if name in ("length", "samples", "seed") and (problem := number_problem(name, value)):
                raise TaskError(f"spec: field {name!r} {problem}")
        generator = check_generator(spec.get("generator", "exact"), "spec")
        given = {name: spec[name] for name in axes if name in spec}
        if given and generator != "exact":
            raise TaskError(f"spec: generator {generator!r} makes RULER's own tasks only; a new task is `exact`")
        variant = _variant(str(spec["task"]), given)
        return cls(variant=variant, **{name: spec[name] for name in own if name in spec})

    @property
    def needles(self) -> Variant:
        """The variant of a needle task."""
        assert self.variant is not None, self.task
        return self.variant

    @property
    def generated_tokens(self) -> int:
        """Tokens that the model may generate."""
        if self.variant is None:
            return OTHER_TASKS[self.task].generated_tokens
        return needle_template(self.variant.num_answers).generated_tokens


def problems_of(spec: Mapping[str, Any], _folder: Path) -> list[Problem]:
    """The first thing that is wrong with the spec of a user's file."""
    try:
        RulerSpec.parse(spec)
    except TaskError as error:
        return [problem_of(error)]
    return []


def _variant(task: str, given: Mapping[str, Any]) -> Variant | None:
    if task in VARIANTS or task in OTHER_TASKS:
        if given:
            raise TaskError(
                f"spec: {task!r} fixes {', '.join(sorted(given))}; give the task another name to change them"
            )
        return VARIANTS.get(task)
    if "haystack" not in given:
        known = way_out(task, [*VARIANTS, *OTHER_TASKS])
        raise TaskError(f"spec: no task is called {task!r}, and a new one needs `haystack`; {known}")
    kinds = get_args(SimpleKind)
    allowed = {"haystack": CONTEXT_KINDS, "key": kinds, "value": kinds}
    for name, choices in allowed.items():
        if name in given and given[name] not in choices:
            raise TaskError(f"spec: field {name!r} {must_be_one_of(choices, given[name])}")
    variant = Variant(**given)
    if variant.num_needles > len(DEPTHS):
        raise TaskError(
            f"spec: fields 'needles' and 'values': at most {len(DEPTHS)} needles, as many as there are depths, "
            f"got {variant.num_needles}"
        )
    if variant.queries > variant.needles:
        raise TaskError(f"spec: field 'queries' must be at most 'needles' ({variant.needles}), got {variant.queries}")
    return variant
