"""Dataclasses read from JSON: every field is there, of its type and within its bounds, or the message names it.

The types that are understood: str, int, float, bool, None, Any, Literal, unions, `tuple[X, ...]`, `Mapping[str, X]`,
dataclasses, and `Annotated[X, bound]` with the bounds of this module. A bool is no number, and a number is finite.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from sys import intern
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from basis.errors import shown
from harness.errors import UserError

T = TypeVar("T")
Reader = Callable[[Any], Any]
"""Makes a value of JSON's; the trail of a `FieldError` that it raises begins at that value."""


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
        self.field, self._problem = field, problem

    def below(self, place: str) -> FieldError:
        """The same, of a field of what is at a place: a name, or `[3]` in a list."""
        between = "." if self.field and not self.field.startswith("[") else ""
        return FieldError(f"{place}{between}{self.field}", self._problem)


def read_fields(kind: type[T], raw: Any) -> T:
    """Make a dataclass of a JSON object.

    Args:
        kind: the dataclass.
        raw: what JSON holds.

    Raises:
        FieldError: no object, or a field that is unknown, missing, of another type, or out of bounds.
    """
    found: T = _reader(kind)(raw)  # type: ignore[arg-type]
    return found


@cache
def _reader(kind: Any) -> Reader:
    """The reader of a type, made once: records and samples have the same few types a million times."""
    if kind in PLAIN:
        return PLAIN[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _bounded(_reader(arguments[0]), arguments[1:])
    if origin in (Union, types.UnionType):
        return _optional(_reader(next(each for each in arguments if each is not types.NoneType)))
    if origin is Literal:
        return _one_of(arguments)
    if origin is tuple:
        return _list(_reader(arguments[0]))
    return _mapping(_reader(arguments[1])) if origin is not None else _fields(kind)


def _fields(kind: type[Any]) -> Reader:
    """The reader of a dataclass."""
    hints, own = get_type_hints(kind, include_extras=True), fields(kind)
    needed = tuple(item.name for item in own if item.default is MISSING and item.default_factory is MISSING)
    readers = {item.name: _reader(hints[item.name]) for item in own}

    def read(raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            raise FieldError("", f"must have fields, got {_shown(raw)}")
        for name in raw:
            if name not in readers:
                raise FieldError("", f"unknown field {name!r}")
        for name in needed:
            if name not in raw:
                raise FieldError("", f"field {name!r} is missing")
        found = {}
        try:
            for name, value in raw.items():
                found[name] = readers[name](value)
        except FieldError as error:
            raise error.below(name) from None
        return kind(**found)

    return read


def _mapping(reader: Reader) -> Reader:
    """The reader of fields of any names, all of one type; a million objects have the same few names."""

    def read(raw: Any) -> dict[str, Any]:
        if not isinstance(raw, Mapping):
            raise FieldError("", f"must have fields, got {_shown(raw)}")
        found = {}
        for name, value in raw.items():
            try:
                found[intern(str(name))] = reader(value)
            except FieldError as error:
                raise error.below(str(name)) from None
        return found

    return read


def _list(reader: Reader) -> Reader:
    """The reader of a list, all of one type."""

    def read(raw: Any) -> tuple[Any, ...]:
        if not isinstance(raw, (list, tuple)):
            raise FieldError("", f"must be a list, got {_shown(raw)}")
        found = []
        for place, value in enumerate(raw):
            try:
                found.append(reader(value))
            except FieldError as error:
                raise error.below(f"[{place}]") from None
        return tuple(found)

    return read


def _optional(reader: Reader) -> Reader:
    return lambda raw: None if raw is None else reader(raw)


def _one_of(values: tuple[Any, ...]) -> Reader:
    def read(raw: Any) -> Any:
        if raw not in values or isinstance(raw, bool):
            raise FieldError("", f"must be one of {', '.join(map(str, values))}, got {_shown(raw)}")
        return raw

    return read


def _bounded(reader: Reader, bounds: tuple[Any, ...]) -> Reader:
    """The reader of a type whose values have bounds."""
    least = max((bound.least for bound in bounds if isinstance(bound, AtLeast)), default=None)
    is_filled = any(isinstance(bound, NotEmpty) for bound in bounds)

    def read(raw: Any) -> Any:
        value = reader(raw)
        if least is not None and value < least:
            raise FieldError("", f"must be at least {least}, got {_shown(value)}")
        if is_filled and not value:
            raise FieldError("", "must not be empty")
        return value

    return read


def _number(raw: Any) -> float:
    """A finite number."""
    if type(raw) not in (int, float):
        raise FieldError("", f"must be a number, got {_shown(raw)}")
    try:
        number = float(raw)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise FieldError("", f"must be a finite number, got {_shown(raw)}")
    return number


def _exactly(kind: type[Any], said: str) -> Reader:
    """The reader of a type of which JSON has values; one of a derived type, as true is of whole numbers, is none."""

    def read(raw: Any) -> Any:
        if type(raw) is not kind:
            raise FieldError("", f"must be {said}, got {_shown(raw)}")
        return raw

    return read


PLAIN: dict[Any, Reader] = {
    Any: lambda raw: raw,
    str: _exactly(str, "text"),
    int: _exactly(int, "a whole number"),
    float: _number,
    bool: _exactly(bool, "true or false"),
}


def _shown(raw: Any) -> str:
    """A value in a message: what is long or deep is cut."""
    if isinstance(raw, (Mapping, list, tuple)):
        return "fields" if isinstance(raw, Mapping) else "a list"
    return "null" if raw is None else shown(raw)
