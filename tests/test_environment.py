"""docs/environment.md lists every environment variable that the code touches, and no other of ours."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path for package in ("basis", "gdn2", "harness", "tasks") for path in (ROOT / package).rglob("*.py"))
SOURCES = {path: path.read_text(encoding="utf-8") for path in FILES}


def constants(trees: dict[Path, ast.Module]) -> dict[str, tuple[str, ...]]:
    """Names that stand for strings, or tuples of strings, anywhere in the code."""
    found: dict[str, tuple[str, ...]] = {}
    for tree in trees.values():
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                strings = [part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
                found[node.targets[0].id] = tuple(text for text in strings if isinstance(text, str))
    return found


def keys(tree: ast.Module) -> Iterator[ast.expr]:
    """What os.environ and os.getenv are asked for, or given."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (
            *(f"os.environ.{name}" for name in ("get", "setdefault", "pop", "__setitem__", "update")),
            "os.getenv",
            "os.putenv",
        ):
            yield node.args[0]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            yield node.slice
        elif isinstance(node, ast.Compare) and ast.unparse(node.comparators[0]) == "os.environ":
            yield node.left


def variables(sources: dict[Path, str]) -> set[str]:
    trees = {path: ast.parse(text) for path, text in sources.items() if "environ" in text or "_VARIABLE" in text}
    named = constants(trees)
    found: set[str] = set()
    for path, tree in trees.items():
        for key in keys(tree):
            if isinstance(key, ast.Constant):
                found.add(str(key.value))
                continue
            names = [node.id for node in ast.walk(key) if isinstance(node, ast.Name) and node.id in named]
            local = isinstance(key, ast.Name) and key.id not in named  # of a loop over a constant
            assert names or local, f"{path}: {ast.unparse(key)} names no variable that can be found"
            found |= {text for name in names for text in named[name]}
    return found


def test_the_page_lists_every_variable_and_nothing_that_is_not_read() -> None:
    page = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    read = variables(SOURCES)
    assert {"GDN2_DATA", "GDN2_BACKEND", "HF_HUB_OFFLINE", "RAY_USAGE_STATS_ENABLED"} <= read
    assert not {name for name in read if f"`{name}`" not in page}
    assert set(re.findall(r"`(GDN2_\w+)`", page)) <= read


def test_a_new_variable_is_noticed_however_it_is_read() -> None:
    reads = ('os.environ.get("A")', 'os.environ["B"]', "os.getenv(X_VARIABLE)", '"D" in os.environ')
    code = 'import os\nX_VARIABLE = "C"\n' + "".join(f"{read}\n" for read in reads)
    assert variables({Path("new.py"): code}) == {"A", "B", "C", "D"}
