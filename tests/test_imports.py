"""Imports point one way: no circle among modules, no task family that knows another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from import_graph import ROOT, between, circles, import_graph, top_packages

ROOMS = ("cli", "show", "study", "analysis", "runs", "staging", "checkpoints", "lm", "records", "engine")
"""The rooms of harness/, from the top: imports point down this list. Beside them are modules that all may import."""
FAMILIES = ("needle", "ruler", "retrieval", "commonsense", "perplexity", "editing")


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)


@pytest.mark.parametrize("package", top_packages())
def test_no_module_imports_itself_by_way_of_others(package: str) -> None:
    assert circles(import_graph(package)) == []


def test_no_task_family_imports_another() -> None:
    packages = between(import_graph("tasks", typing_only=True))
    crossing = {
        (family, other) for family in FAMILIES for other in FAMILIES if f"tasks.{other}" in packages[f"tasks.{family}"]
    }
    assert not crossing


def test_what_families_share_and_the_families_know_nothing_of_those_who_list_them() -> None:
    packages = between(import_graph("tasks", typing_only=True))
    families = {f"tasks.{family}" for family in FAMILIES}
    listing = {f"tasks.{name}" for name in ("families", "catalog", "own", "registry", "suite", "check", "preview")}
    assert not packages["tasks.text"] & (families | listing)
    for family in families:
        assert not packages[family] & listing, family
    assert circles(packages) == []


def test_the_rooms_of_the_harness_import_down_their_list_only() -> None:
    """Imports inside functions and those for type checkers count, too."""
    packages = between(import_graph("harness", typing_only=True))
    ranks = {f"harness.{room}": rank for rank, room in enumerate(ROOMS)}
    found = {f"harness.{file.parent.name}" for file in (ROOT / "harness").glob("*/__init__.py")}
    assert found == set(ranks)
    for name in packages.keys() - {"harness"}:  # the package itself is its face: harness.run(...)
        below = {other for other, rank in ranks.items() if rank > ranks.get(name, len(ROOMS))}
        assert not (packages[name] & ranks.keys()) - below, name


def rooms() -> dict[str, list[str]]:
    """Each room of the harness with the rooms that it imports, in their order."""
    graph = between(import_graph("harness", typing_only=True))
    return {
        room: [other for other in ROOMS if f"harness.{other}" in graph.get(f"harness.{room}", set())] for room in ROOMS
    }


def test_the_architecture_page_has_the_imports_between_rooms_and_files_that_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page.split("## The rooms of harness/")[1].split("\n## ")[0]
    said = {}
    for line in section.splitlines():
        if match := re.fullmatch(r"\| `(\w+)` \|(.*)\|", line):
            said[match[1]] = re.findall(r"`(\w+)`", match[2])
    assert said == rooms()
    walk = page.split("## From a YAML file to a cell")[1].split("\n## ")[0]
    files = re.findall(r"`((?:harness|tasks|gdn2)/[\w./]+\.(?:py|yaml))`", walk)
    assert len(files) > 20
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_a_circle_is_found_through_imports_inside_functions(tmp_path: Path) -> None:
    write(
        tmp_path,
        top__a="from top import b",
        top__b="def f():\n    from top.deep.c import g",
        top__deep__c="from ..a import x\nfrom . import d",
        top__deep__d="import top.lone",
        top__lone="import typing\nif typing.TYPE_CHECKING:\n    from top.deep import d\nelse:\n    import os",
    )
    assert circles(import_graph("top", root=tmp_path)) == [["top.a", "top.b", "top.deep.c"]]
    with_types = import_graph("top", root=tmp_path, typing_only=True)
    assert circles(with_types) == [["top.a", "top.b", "top.deep.c"], ["top.deep.d", "top.lone"]]
    assert between(with_types)["top.deep"] == {"top.a", "top.lone"}


@pytest.mark.parametrize("path", sorted((ROOT / "tests").glob("*.py")), ids=lambda path: path.name)
def test_a_test_file_is_short_and_shares_nothing_with_another_but_helpers(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    assert not re.findall(r"^\s*(?:from (?:tests\.)?test_|import (?:tests\.)?test_).*", text, flags=re.MULTILINE)
