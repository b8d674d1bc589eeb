"""Dataclasses read from JSON: every field is there, of its type and within its bounds, or the message names it.

The types that are understood: str, int, float, bool, None, Any, Literal, unions, `tuple[X, ...]`, `Mapping[str, X]`,
dataclasses, and `Annotated[X, bound]` with the bounds of this module. A bool is no number, and a number is finite.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from basis.errors import shown
from harness.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A bound of a number: no less than `least`."""

    least: float


@dataclass(frozen=True, slots=True)
class NotEmpty:
    """A bound of a text: at least one character."""


Count = Annotated[int, AtLeast(0)]
Positive = Annotated[int, AtLeast(1)]
Amount = Annotated[float, AtLeast(0)]
Name = Annotated[str, NotEmpty()]


class FieldError(UserError):
    """A field that cannot be taken: which one, and why.

    Attributes:
        field: the trail to it, such as `cells[3].scores.acc.value`.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field


def read_fields(kind: type[T], raw: Any, trail: str = "") -> T:
    """Make a dataclass of a JSON object.

    Args:
        kind: the dataclass.
        raw: what JSON holds.
        trail: the place of `raw` in the file, for messages.

    Raises:
        FieldError: no object, or a field that is unknown, missing, of another type, or out of bounds.
    """
    if not isinstance(raw, Mapping):
        raise FieldError(trail, f"must have fields, got {_shown(raw)}")
    known, needed = _known(kind)  # type: ignore[arg-type]
    for name in raw:
        if name not in known:
            raise FieldError(trail, f"unknown field {name!r}")
    for name in needed:
        if name not in raw:
            raise FieldError(trail, f"field {name!r} is missing")
    return kind(**{name: read_value(known[name], value, _below(trail, name)) for name, value in raw.items()})


def read_value(kind: Any, raw: Any, trail: str) -> Any:
    """Make a value of a type of JSON's value.

    Args:
        kind: any of the types above.
        raw: what JSON holds.
        trail: the place of `raw` in the file, for messages.

    Raises:
        FieldError: another type, or out of bounds.
    """
    if kind is Any or (type(raw) is kind and kind in (str, int, bool)):
        return raw
    origin, arguments = _parts(kind)
    if origin is Annotated:
        return _bounded(read_value(arguments[0], raw, trail), arguments[1:], trail)
    if origin in (Union, types.UnionType):
        return None if raw is None else read_value(next(a for a in arguments if a is not types.NoneType), raw, trail)
    if origin is Literal:
        if raw not in arguments or isinstance(raw, bool):
            raise FieldError(trail, f"must be one of {', '.join(map(str, arguments))}, got {_shown(raw)}")
        return raw
    if origin is tuple:
        if not isinstance(raw, (list, tuple)):
            raise FieldError(trail, f"must be a list, got {_shown(raw)}")
        return tuple(read_value(arguments[0], item, f"{trail}[{i}]") for i, item in enumerate(raw))
    if origin is not None:
        if not isinstance(raw, Mapping):
            raise FieldError(trail, f"must have fields, got {_shown(raw)}")
        return {str(name): read_value(arguments[1], item, _below(trail, str(name))) for name, item in raw.items()}
    if isinstance(kind, type) and is_dataclass(kind):
        return read_fields(kind, raw, trail)
    return _plain(kind, raw, trail)


def _plain(kind: Any, raw: Any, trail: str) -> Any:
    """Text, a whole number, a number, or true and false."""
    if kind is float and type(raw) in (int, float):
        try:
            number = float(raw)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise FieldError(trail, f"must be a finite number, got {_shown(raw)}")
        return number
    if type(raw) is not kind:
        said = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}[kind]
        raise FieldError(trail, f"must be {said}, got {_shown(raw)}")
    return raw


def _bounded(value: Any, bounds: tuple[Any, ...], trail: str) -> Any:
    for bound in bounds:
        if isinstance(bound, AtLeast) and value < bound.least:
            raise FieldError(trail, f"must be at least {bound.least}, got {_shown(value)}")
        if isinstance(bound, NotEmpty) and not value:
            raise FieldError(trail, "must not be empty")
    return value


@cache
def _parts(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """What a type is made of; records have the same few types a million times."""
    return get_origin(kind), get_args(kind)


@cache
def _known(kind: type[Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The types of a dataclass's fields by name, and the names of those that have no default."""
    hints, own = get_type_hints(kind, include_extras=True), fields(kind)
    needed = tuple(item.name for item in own if item.default is MISSING and item.default_factory is MISSING)
    return {item.name: hints[item.name] for item in own}, needed


def _below(trail: str, name: str) -> str:
    return f"{trail}.{name}" if trail else name


def _shown(raw: Any) -> str:
    """A value in a message: what is long or deep is cut."""
    if isinstance(raw, (Mapping, list, tuple)):
        return "fields" if isinstance(raw, Mapping) else "a list"
    return "null" if raw is None else shown(raw)
