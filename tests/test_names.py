"""One name, one thing: no package has two public functions or classes of one name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from import_graph import ROOT, top_packages

CONTRACTS: Mapping[str, set[str]] = {
    "gdn2/checkpoints/importers": {"matches", "plan", "key_map", "read"},
    "harness/cli": {"add_commands", "main"},
    "tasks/perplexity": {"build"},
    "tasks/retrieval": {"build"},
    "tasks/ruler/official": {"samples"},
}
"""Functions that modules of one folder offer under one name, because whoever asks calls the one of the right module."""
NOT_YET = {"gdn2": set[str](), "harness": set[str](), "tasks": set[str](), "basis": set[str]()}
"""Classes of one name that are to be told apart."""


def definitions(package: Path) -> Iterator[tuple[Path, ast.FunctionDef | ast.ClassDef]]:
    """The public functions and classes at the top of each module of a package."""
    for path in sorted(package.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                yield path, node


def twice(found: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {name: places for name, places in found.items() if len(places) > 1}


@pytest.mark.parametrize("package", top_packages())
def test_a_folder_has_one_public_function_or_class_of_a_name(package: str) -> None:
    folders: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path, node in definitions(ROOT / package):
        folders[path.parent.relative_to(ROOT).as_posix()][node.name].append(path.name)
    for folder, found in folders.items():
        assert twice(found).keys() == CONTRACTS.get(folder, set()), folder


@pytest.mark.parametrize("package", top_packages())
def test_a_package_has_one_public_class_of_a_name(package: str) -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for path, node in definitions(ROOT / package):
        if isinstance(node, ast.ClassDef):
            found[node.name].append(str(path.relative_to(ROOT)))
    assert twice(found).keys() == NOT_YET[package], twice(found)
