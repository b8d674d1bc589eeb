"""Fields of a recipe: which values each may have, and mappings from YAML turned into dataclasses by that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, field, fields
from pathlib import Path
from typing import Any, TypeVar

from basis.errors import FileError, UserError, shown
from basis.files import parse_yaml, read_text
from basis.names import must_be_one_of, way_out

T = TypeVar("T")


class RecipeError(UserError, ValueError):
    """A recipe that cannot be followed; the message names the file and the field."""


def number(low: float, high: float, default: Any = MISSING, above: bool = False) -> Any:
    """Declare a field that holds a number.

    Args:
        low: the smallest value.
        high: the largest value.
        default: the value where the recipe names none; without it the recipe must.
        above: whether `low` itself is too small.

    Returns:
        A dataclass field.
    """
    return field(default=default, metadata={"low": low, "high": high, "above": above})


def choice(*names: str) -> Any:
    """Declare a field that holds one of these words, by default the first."""
    return field(default=names[0], metadata={"names": names})


def flag() -> Any:
    """Declare a field that holds true or false, by default false."""
    return field(default=False, metadata={"flag": True})


def build(kind: type[T], value: object, path: Path, where: str, given: Mapping[str, Any] | None = None) -> T:
    """Make a dataclass of a mapping.

    Args:
        kind: the dataclass; its numbers are declared by `number`.
        value: as the recipe has it.
        path: the recipe, for messages.
        where: the place in the recipe, for messages; empty for the recipe itself.
        given: fields that are made already; the recipe cannot set them again.

    Returns:
        The dataclass, every value checked.

    Raises:
        RecipeError: not a mapping, an unknown or a missing field, or a value that the field cannot have.
    """
    given = given or {}
    mapping = as_mapping(value, path, where)
    known = {name: item for name, item in _settable(kind).items() if name not in given}
    for name in mapping:
        if name not in known:
            names = [*known, *(name for name, item in _settable(kind).items() if name in given and item.repr)]
            raise RecipeError(f"{path}: {_unknown(where, name, names)}")
    prefix = f"{where}." if where else ""
    for name, item in known.items():
        if name in mapping:
            _check(item, mapping[name], f"{path}: {prefix}{name}")
        elif item.default is MISSING:
            raise RecipeError(f"{path}: {where or 'the recipe'} lacks the field {name!r}")
    return kind(**mapping, **given)


def read_mapping(path: Path) -> tuple[str, dict[str, Any]]:
    """Read a YAML file of fields: its text, and what that says.

    Raises:
        RecipeError: as `parse_mapping`, or the file cannot be read.
    """
    try:
        text = read_text(path)
    except FileError as error:
        raise RecipeError(str(error)) from error
    return text, parse_mapping(text, path)


def parse_mapping(text: str, path: Path) -> dict[str, Any]:
    """Take fields from YAML; `path` is the file that messages name.

    Raises:
        RecipeError: the text is no YAML, or no mapping whose names are text.
    """
    try:
        return as_mapping(parse_yaml(text, str(path)), path, "")
    except FileError as error:
        raise RecipeError(str(error)) from error


def check_fields(raw: Mapping[str, Any], known: Sequence[str], path: Path, where: str) -> None:
    """See that fields are among those that there are.

    Raises:
        RecipeError: one is not.
    """
    for name in raw:
        if name not in known:
            raise RecipeError(f"{path}: {_unknown(where, name, known)}")


def as_mapping(value: object, path: Path, where: str) -> dict[str, Any]:
    """Take a mapping whose names are text.

    Raises:
        RecipeError: it is none, or a name is something else.
    """
    if not isinstance(value, Mapping):
        raise RecipeError(f"{path}: {where or 'the file'} must be a mapping of fields, got {_shown(value)}")
    for name in value:
        if not isinstance(name, str):
            raise RecipeError(f"{path}: {where or 'the recipe'} has a field that is no name: {_shown(name)}")
    return dict(value)


def refuse_idle(model: Mapping[str, Any], path: Path, where: str) -> None:
    """Refuse fields of a model that transformers knows and no training computes with: they would do nothing in silence.

    Args:
        model: fields of its configuration.
        path: the file, for the message.
        where: the place in the file.

    Raises:
        RecipeError: there is such a field; the message names it.
    """
    from gdn2.config import GDN2Config
    from gdn2.config_checks import BASE_FIELDS, is_base_field

    for name, value in model.items():
        if name in BASE_FIELDS or (name not in GDN2Config.__annotations__ and is_base_field(name, value)):
            kind = "; `precision` is what is trained in" if name in ("dtype", "torch_dtype") else ""
            raise RecipeError(f"{path}: {where}.{name} does nothing in a training{kind}; remove it")


def check_number(
    value: object, where: str, bounds: tuple[float, float], *, above: bool = False, whole: bool = False
) -> None:
    """See that a value is a number within bounds.

    Args:
        value: as the file has it.
        where: what the message begins with.
        bounds: the smallest and the largest.
        above: whether the smallest itself is too small.
        whole: whether it must be a whole number.

    Raises:
        RecipeError: it is not.
    """
    kinds = int if whole else (int, float)
    wanted = "a whole number" if whole else "a number"
    if not isinstance(value, kinds) or isinstance(value, bool):
        hint = " (YAML takes an exponent for a number only behind a point: 1.0e-3)" if _is_exponent(value) else ""
        raise RecipeError(f"{where} must be {wanted}, got {_shown(value)}{hint}")
    low, high = bounds
    if not (low < value if above else low <= value) or not value <= high:
        sign = "above" if above else "from"
        raise RecipeError(f"{where} must be {wanted} {sign} {low} to {high}, got {_shown(value)}")


def as_text(value: object, path: Path, where: str) -> str:
    """Take a text; nothing is an empty one.

    Raises:
        RecipeError: it is something else.
    """
    if value is not None and not isinstance(value, str):
        raise RecipeError(f"{path}: {where} must be a text, got {_shown(value)}")
    return (value or "").strip()


def _settable(kind: type) -> dict[str, Field[Any]]:
    return {item.name: item for item in fields(kind)}


def _unknown(where: str, name: str, known: Sequence[str]) -> str:
    return f"{where or 'the recipe'} has no field {_shown(name)}; {way_out(name, sorted(known))}"


def _check(item: Field[Any], value: object, where: str) -> None:
    """Refuse a value that is not of the field's type or lies outside of its bounds."""
    if item.type == "str":
        if not isinstance(value, str):
            raise RecipeError(f"{where} must be a text, got {_shown(value)}")
        if any((ord(letter) < 32 and letter not in "\n\t") or 127 <= ord(letter) < 160 for letter in value):
            raise RecipeError(f"{where} has a control character: {_shown(value)}")
    if "flag" in item.metadata and not isinstance(value, bool):
        raise RecipeError(f"{where} must be true or false, got {_shown(value)}")
    if "names" in item.metadata and value not in item.metadata["names"]:
        raise RecipeError(f"{where} {must_be_one_of(item.metadata['names'], value, _shown(value))}")
    if "low" in item.metadata:
        _check_number(item, value, where)


def _check_number(item: Field[Any], value: object, where: str) -> None:
    low, high, above = item.metadata["low"], item.metadata["high"], item.metadata["above"]
    check_number(value, where, (low, high), above=above, whole=item.type == "int")


def _is_exponent(value: object) -> bool:
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


def _shown(value: object) -> str:
    """A value in a message: on one line, and not longer than that."""
    if value is None or isinstance(value, Mapping | list):
        return {"NoneType": "nothing", "dict": "a mapping", "list": "a list"}.get(type(value).__name__, "a mapping")
    return shown(value)
