"""Task files as written: YAML with its `include` merged, functions as names until they are needed."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import yaml

from tasks.errors import TaskError

ROOT = Path(__file__).parent
"""The folder of this package, which holds the shipped files."""


class FunctionName(str):
    """A dotted name that was written behind `!function`."""


def load_yaml(file: Path, _chain: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A task YAML with its `include` merged, as lm-eval merges it; functions stay names. Raises TaskError."""
    try:
        loaded = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise TaskError(f"{file}: cannot be read ({error})") from error
    if not isinstance(loaded, dict):
        raise TaskError(f"{file}: must be a mapping of fields")
    included = loaded.pop("include", None)
    if not included:
        return loaded
    if not isinstance(included, str):
        raise TaskError(f"{file}: include must be the path of one YAML file, got {included!r}")
    chain = (*_chain, file.resolve())
    if (file.parent / included).resolve() in chain:
        raise TaskError(f"{file}: include {included!r} leads back to itself")
    return {**load_yaml(file.parent / included, chain), **loaded}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """SafeLoader that keeps `!function` as a name."""


_Loader.add_constructor("!function", lambda _loader, node: FunctionName(node.value))


def with_functions(value: Any) -> Any:
    """The same with imported functions in place of their names."""
    if isinstance(value, FunctionName):
        return import_function(value)
    if isinstance(value, dict):
        return {key: with_functions(item) for key, item in value.items()}
    return [with_functions(item) for item in value] if isinstance(value, list) else value


def import_function(name: str) -> Any:
    """The function that `!function NAME` names. Raises TaskError."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise TaskError(f"!function {name}: cannot be imported ({error}); write module.function") from error
