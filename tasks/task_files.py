"""Task files as written: YAML with its `include` merged, functions as names until they are needed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from basis.errors import FileError, reason
from basis.files import parse_yaml, read_text
from basis.yaml_loader import GuardedLoader
from tasks.errors import TaskError

ROOT = Path(__file__).parent
"""The folder of this package, which holds the shipped files."""
Trail = tuple[str | int, ...]
_own_files: dict[int, tuple[Any, Path]] = {}
"""Functions of the user's own by their identity, which is theirs as long as they are kept here, with their files."""


class FunctionName(str):
    """A dotted name that was written behind `!function`.

    Attributes:
        folder: of the file that names it, where a Python file with the function may lie; None: of this package only.
    """

    folder: Path | None = None


def load_yaml(file: Path, _chain: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a task's or suite's YAML with its `include` merged, as lm-eval merges it; functions stay names.

    Raises:
        TaskError: a file that cannot be read, is not YAML, or includes itself; the message begins with the file.
    """
    loaded = _parsed(file)
    if not isinstance(loaded, dict):
        raise TaskError(f"{file}: must be a mapping of fields")
    for _, name in functions_in(loaded):
        name.folder = file.parent
    included = loaded.pop("include", None)
    if not included:
        return loaded
    if not isinstance(included, str) or "\0" in included:
        raise TaskError(f"{file}: include must be the path of one YAML file, got {included!r}")
    chain = (*_chain, file.resolve())
    if (file.parent / included).resolve() in chain:
        raise TaskError(f"{file}: include {included!r} leads back to itself")
    return {**load_yaml(file.parent / included, chain), **loaded}


def _parsed(file: Path) -> Any:
    """What a file holds. Those of this package are read by the loader in C, ten times as fast."""
    shipped = file.is_relative_to(ROOT) and ".." not in file.parts
    try:
        text = read_text(file)
        return yaml.load(text, Loader=_QuickLoader) if shipped else parse_yaml(text, str(file), _GuardedLoader)
    except (FileError, yaml.YAMLError) as error:
        raise TaskError(reason(error)) from error


class _QuickLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """SafeLoader that keeps `!function` as a name."""


class _GuardedLoader(GuardedLoader):
    """The same for files that others wrote."""


for _loader in (_QuickLoader, _GuardedLoader):
    _loader.add_constructor("!function", lambda _loader, node: FunctionName(node.value))


def functions_in(value: Any, trail: Trail = ()) -> Iterator[tuple[Trail, FunctionName]]:
    """Every function that fields name, with the path of its field."""
    if isinstance(value, FunctionName):
        yield trail, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from functions_in(item, (*trail, str(name)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from functions_in(item, (*trail, index))


def with_functions(value: Any) -> Any:
    """The same with imported functions in place of their names."""
    if isinstance(value, FunctionName):
        return import_function(value)
    if isinstance(value, dict):
        return {key: with_functions(item) for key, item in value.items()}
    return [with_functions(item) for item in value] if isinstance(value, list) else value


def import_function(name: FunctionName) -> Any:
    """Import the function that `!function NAME` names: one of this package, or of a Python file beside the YAML.

    Raises:
        TaskError: a function from elsewhere, one that cannot be imported, or what is no function.
    """
    module, _, attribute = name.rpartition(".")
    beside = name.folder / f"{module}.py" if name.folder and module.isidentifier() else None
    if module.split(".")[0] != ROOT.name and (beside is None or not beside.is_file()):
        raise TaskError(
            f"!function {name}: neither a function of this project's {ROOT.name} nor of a Python file beside this one; "
            f"write {ROOT.name}.MODULE.FUNCTION, or FILE.FUNCTION for FILE.py"
        )
    try:
        found = importlib.import_module(module) if module.split(".")[0] == ROOT.name else _own_module(beside)
        function = getattr(found, attribute)
    except (Exception, SystemExit) as error:  # a file of the user's own may raise anything
        raise TaskError(f"!function {name}: cannot be imported ({reason(error)}); write module.function") from error
    if not callable(function):
        raise TaskError(f"!function {name}: is no function but {type(function).__name__}")
    if module.split(".")[0] != ROOT.name and beside is not None:
        _own_files[id(function)] = function, beside
    return function


def _own_module(file: Path | None) -> Any:
    """The module of a Python file, imported once a version."""
    assert file is not None
    return _imported(file.resolve(), file.stat().st_mtime_ns)


def own_file(function: Any) -> Path | None:
    """The Python file of the user's own that `!function` took a function from; None for anything else."""
    return _own_files.get(id(function), (None, None))[1]


@lru_cache(maxsize=64)
def _imported(file: Path, _changed: int) -> Any:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None, file
    assert spec.loader is not None, file
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
