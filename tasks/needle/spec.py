"""What a YAML retrieval task is: haystack, needles, questions, depths and scoring, every mistake with its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from string import Formatter
from typing import Any

from basis.names import way_out
from tasks.errors import TaskError
from tasks.limits import LONGEST_NAME, MAX_LENGTH, MOST_NEEDLES, number_problem
from tasks.needle.answerable import scoring_problem
from tasks.needle.scoring import RULES, SINGLE
from tasks.needle.sources import Source, parse_source
from tasks.problems import Problem, raise_first, unknown_fields
from tasks.text.kinds import Kind, parse_kind

GENERATED_TOKENS = 128
COUNTS = {"length": 1, "samples": 1, "keys": 1, "values": 1, "queries": 1, "distractors": 0, "generated_tokens": 1}
"""Whole numbers with the least that makes sense."""
PLACEHOLDERS = {
    "opening": ("count",),
    "needle": ("key", "value"),
    "distractor": ("key", "value"),
    "question": ("key", "keys", "count"),
    "answer_prefix": ("key", "keys", "count"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Depths:
    """Where needles are put: anywhere, at some of the listed depths, or on a grid that the samples go through."""

    listed: tuple[float, ...] = ()
    grid: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class NeedleSpec:
    """One retrieval task at one length, as `dataset_kwargs: spec:` of a YAML says it."""

    task: str
    length: int
    """Tokens: context prefix, model input and generated tokens."""
    needle: str
    """Template of a needle: {key} and {value}."""
    question: str
    """Template behind the haystack: {key}, or {keys} where several are asked; {count} answers."""
    haystack: Source
    key: Kind
    value: Kind
    opening: str = ""
    """Text before the haystack."""
    answer_prefix: str = ""
    """How the answer begins."""
    distractor: str = ""
    """Template of a false needle; by default the needle's."""
    keys: int = 1
    values: int = 1
    """Values of each key; every value has a needle of its own."""
    queries: int = 1
    """Keys asked at once."""
    distractors: int = 0
    """False needles, with keys and values that nobody asks for."""
    depths: Depths = Depths()
    scoring: str | tuple[str, ...] = "all"
    """A rule of scoring.RULES, whose metric is `acc`; or several, a metric each."""
    generated_tokens: int = GENERATED_TOKENS
    samples: int = 100
    seed: int = 42

    @classmethod
    def parse(cls, spec: Mapping[str, Any], folder: Path) -> NeedleSpec:
        """Check a mapping from YAML; files are relative to `folder`. Raises TaskError that names the field."""
        parsed, problems = parse_with_problems(spec, folder)
        raise_first(problems, "spec")
        if parsed is None:
            raise TaskError("spec: field 'length' is missing")
        return parsed


FIELDS = (*(field.name for field in fields(NeedleSpec)), "lengths")


def lengths_of(spec: Mapping[str, Any]) -> tuple[int, ...]:
    """The lengths that a spec names."""
    given = spec.get("length", spec.get("lengths", ()))
    return tuple(given) if isinstance(given, list | tuple) else (given,)


def problems_of(spec: Mapping[str, Any], folder: Path) -> list[Problem]:
    """Everything that is wrong with the spec of a file in this folder; reads no data."""
    return parse_with_problems(spec, folder)[1]


def generated_tokens_of(spec: Mapping[str, Any]) -> int:
    """The tokens that a spec leaves for the answer."""
    found: int = spec.get("generated_tokens", GENERATED_TOKENS)
    return found


def parse_with_problems(spec: Any, folder: Path) -> tuple[NeedleSpec | None, list[Problem]]:
    """The parsed spec, at the first of its lengths, and everything that is wrong with it; reads no data."""
    if not isinstance(spec, Mapping):
        return None, [Problem((), f"must be a mapping of fields, got {spec!r}")]
    problems = unknown_fields(spec, FIELDS)
    misspelt = " ".join(problem.message for problem in problems)
    for name in ("task", "needle", "question", "haystack", "key", "value"):
        if name not in spec and f"{name!r}" not in misspelt:
            problems.append(Problem((), f"field {name!r} is missing"))
    problems += _counts(spec) + _lengths(spec) + _choices(spec)
    made: dict[str, Any] = {}
    for name, parse in (("haystack", parse_source), ("key", parse_kind), ("value", parse_kind), ("depths", _depths)):
        if name in spec:
            made[name] = parse(spec[name], folder)
            if isinstance(made[name], list):
                problems += [problem.below(name) for problem in made[name]]
    problems += _templates(spec)
    if problems:
        return None, problems
    plain = {name: value for name, value in spec.items() if name not in ("length", "lengths")}
    if isinstance(plain.get("scoring"), list):
        plain["scoring"] = tuple(plain["scoring"])
    parsed = NeedleSpec(**{**plain, **made, "length": lengths_of(spec)[0]})
    problems = _together(parsed)
    return (None if problems else parsed), problems


def _counts(spec: Mapping[str, Any]) -> list[Problem]:
    problems = []
    for name, least in COUNTS.items():
        value = spec.get(name, least)
        if type(value) is not int or value < least:
            problems.append(Problem((name,), f"must be a whole number, {least} or more, got {value!r}"))
    if type(spec.get("seed", 0)) is not int:
        problems.append(Problem(("seed",), f"must be a whole number, got {spec['seed']!r}"))
    for name in ("length", "samples", "seed"):
        if type(spec.get(name)) is int and spec[name] >= COUNTS.get(name, spec[name]):
            message = number_problem(name, spec[name])
            problems += [Problem((name,), message)] if message else []
    return problems


def _lengths(spec: Mapping[str, Any]) -> list[Problem]:
    if "length" in spec:
        return []
    if "lengths" not in spec:
        if any(str(name).startswith("len") for name in spec):  # misspelt: said already
            return []
        return [Problem((), "field 'lengths' is missing: the lengths in tokens, such as [1024, 2048]")]
    given = spec["lengths"]
    if not isinstance(given, list) or not given:
        return [Problem(("lengths",), f"must be a list of lengths in tokens, such as [1024, 2048], got {given!r}")]
    problems = [
        Problem(("lengths", index), f"must be a whole number of tokens, got {value!r}")
        for index, value in enumerate(given)
        if type(value) is not int or value < 1
    ]
    twice = [index for index, value in enumerate(given) if value in given[:index]]
    problems += [Problem(("lengths", index), f"{given[index]!r} is listed twice") for index in twice]
    if not problems and (over := [index for index, value in enumerate(given) if value > MAX_LENGTH]):
        problems.append(Problem(("lengths", over[0]), f"must be at most {MAX_LENGTH:,} tokens, got {given[over[0]]:,}"))
    return problems


def _choices(spec: Mapping[str, Any]) -> list[Problem]:
    problems = []
    problems += _scoring(spec.get("scoring", "all"))
    name = spec.get("task", "x")
    if not isinstance(name, str) or not name.replace("_", "").isalnum() or len(name) > LONGEST_NAME:
        message = f"must be a name of letters, digits and _, at most {LONGEST_NAME} characters, got {name!r}"
        problems.append(Problem(("task",), message))
    return problems


def _scoring(raw: Any) -> list[Problem]:
    names = raw if isinstance(raw, list) else [raw]
    problems = [
        Problem(("scoring", *([index] if names is raw else [])), f"no such scoring {name!r}; {way_out(name, RULES)}")
        for index, name in enumerate(names)
        if not isinstance(name, str) or name not in RULES
    ]
    if not names:
        problems.append(Problem(("scoring",), f"names no rule; known: {', '.join(RULES)}"))
    elif not problems and len({RULES[name] for name in names}) < len(names):
        problems.append(Problem(("scoring",), f"names the same rule twice: {', '.join(names)}"))
    return problems


def _depths(raw: Any, _folder: Path) -> Depths | list[Problem]:
    if raw == "uniform":
        return Depths()
    if isinstance(raw, Mapping) and set(raw) == {"grid"}:
        if type(raw["grid"]) is not int or raw["grid"] < 2:
            return [Problem(("grid",), f"must be a whole number of depths, 2 or more, got {raw['grid']!r}")]
        return Depths(grid=raw["grid"])
    if not isinstance(raw, list) or not raw:
        return [Problem((), f"must be uniform, a list such as [0, 0.5, 1], or {{grid: 5}}, got {raw!r}")]
    problems = [
        Problem((index,), f"must be a depth from 0 (beginning) to 1 (end), got {value!r}")
        for index, value in enumerate(raw)
        if type(value) not in (int, float) or not 0 <= value <= 1
    ]
    return problems or Depths(listed=tuple(float(value) for value in raw))


def _templates(spec: Mapping[str, Any]) -> list[Problem]:
    problems = []
    used: dict[str, set[str]] = {}
    for name, known in PLACEHOLDERS.items():
        template = spec.get(name, "")
        if not isinstance(template, str):
            problems.append(Problem((name,), f"must be text, got {template!r}; put it in quotes"))
            continue
        try:
            parts = list(Formatter().parse(template))
        except ValueError as error:
            problems.append(Problem((name,), f"not a template ({error}); a brace that is meant is written twice"))
            continue
        used[name] = {field for _, field, _, _ in parts if field is not None}
        for _, field, form, conversion in parts:
            if form or conversion:
                problems.append(Problem((name,), f"{{{field}}} takes no format and no conversion behind it"))
        for field in sorted(used[name] - set(known)):
            hint = way_out(field, known)
            problems.append(Problem((name,), f"no such placeholder {{{field}}}; {hint}"))
    several = _are_several(spec)
    needed = {"needle": ("value", "key") if several else ("value",)}
    if spec.get("distractor"):
        needed["distractor"] = ("value",)
    for name, names in needed.items():
        for field in names:
            if name in spec and name in used and field not in used[name]:
                problems.append(Problem((name,), f"lacks the placeholder {{{field}}}"))
    return problems + _asking(spec, used, several)


def _are_several(spec: Mapping[str, Any]) -> bool:
    """Whether needles of other keys are worded like the one that is asked, so that only its key tells it apart."""
    are_alike = spec.get("distractor") in (None, "", spec.get("needle"))
    return (
        spec.get("keys", 1) != 1 or spec.get("haystack") == "needle" or (spec.get("distractors", 0) != 0 and are_alike)
    )


def _asking(spec: Mapping[str, Any], used: Mapping[str, set[str]], several: bool) -> list[Problem]:
    """The question, or the beginning of the answer, must say which key is meant."""
    if "question" not in spec or not used.keys() >= {"question", "answer_prefix"}:
        return []
    asking = used["question"] | used["answer_prefix"]
    if spec.get("queries", 1) != 1:
        if "key" in asking:
            name = "question" if "key" in used["question"] else "answer_prefix"
            return [Problem((name,), "uses {key}, but several keys are asked: write {keys}")]
        return [] if "keys" in asking else [Problem(("question",), "lacks the placeholder {keys}")]
    if several and not asking & {"key", "keys"}:
        return [Problem(("question",), "lacks the placeholder {key}: there are needles of several keys")]
    if not spec["question"].strip() and not spec.get("answer_prefix", "").strip():
        return [Problem(("question",), "is empty, and so is answer_prefix: nothing is asked")]
    return []


def _together(spec: NeedleSpec) -> list[Problem]:
    """Fields that depend on others."""
    problems = []
    if spec.queries > spec.keys:
        problems.append(Problem(("queries",), f"asks {spec.queries} keys, but there are {spec.keys}"))
    needles = spec.keys * spec.values + spec.distractors
    most = min(MOST_NEEDLES, spec.length)
    if needles > most:
        few = f"at most {MOST_NEEDLES:,} are planted" if most < spec.length else f"the length has {most:,} tokens"
        name = max(("keys", "values", "distractors"), key=lambda name: int(getattr(spec, name)))
        return [*problems, Problem((name,), f"{needles:,} needles (keys x values + distractors), but {few}")]
    if spec.depths.listed and needles > len(spec.depths.listed):
        problems.append(
            Problem(
                ("depths",),
                f"{needles} needles (keys x values + distractors), but only {len(spec.depths.listed)} depths; "
                "list more of them, or write uniform",
            )
        )
    rules = (spec.scoring,) if isinstance(spec.scoring, str) else spec.scoring
    if (single := next((name for name in rules if name in SINGLE), None)) and spec.queries * spec.values != 1:
        problems.append(Problem(("scoring",), f"{single} needs a single answer; use all, first_line or f1"))
    asked = (("key", spec.key, spec.keys + spec.distractors), ("value", spec.value, needles))
    scored = (scoring_problem(item, spec.scoring) for item in spec.value.items)
    problems += [Problem(("value",), problem) for problem in scored if problem][:1]
    for name, kind, count in asked:
        if kind.items and len(kind.items) < count:
            problems.append(Problem((name,), f"lists {len(kind.items)} different items, but a sample needs {count}"))
    return problems
