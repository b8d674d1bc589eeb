"""The imports between modules of this repository, read from their source: edges, circles, edges between packages."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
Graph = Mapping[str, set[str]]


def import_graph(package: str, *, root: Path = ROOT, typing_only: bool = False) -> dict[str, set[str]]:
    """Every module of a package with the modules of the repository that it imports.

    Imports inside functions count; those under `if TYPE_CHECKING` count only if asked for. A package (`tasks.text`) is
    named where only its `__init__.py` is meant, and importing a module of a package does not count as importing that.

    Args:
        package: a folder below `root`.
        root: the repository.
        typing_only: whether to count imports that only type checkers see.
    """
    modules = {module_name(path, root): path for path in sorted((root / package).rglob("*.py"))}
    known = {module_name(path, root) for top in top_packages(root) for path in (root / top).rglob("*.py")}
    return {name: set(_imports(path, name, known, typing_only)) - {name} for name, path in modules.items()}


def top_packages(root: Path = ROOT) -> list[str]:
    """The folders of the repository that Python can import."""
    return sorted(file.parent.name for file in root.glob("*/__init__.py"))


def module_name(path: Path, root: Path = ROOT) -> str:
    """`tasks.text.words` for its file, `tasks.text` for its `__init__.py`."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def circles(graph: Graph) -> list[list[str]]:
    """The strongly connected components with more than one node, each sorted: modules that import one another."""
    order: list[str] = []
    seen: set[str] = set()
    for name in graph:
        _finish(graph, name, seen, order)
    backward: dict[str, set[str]] = {name: set() for name in graph}
    for name, targets in graph.items():
        for target in targets & graph.keys():
            backward[target].add(name)
    seen, found = set(), []
    for name in reversed(order):
        component: list[str] = []
        _finish(backward, name, seen, component)
        if len(component) > 1:
            found.append(sorted(component))
    return sorted(found)


def between(graph: Graph, depth: int = 2) -> dict[str, set[str]]:
    """The graph of packages: names cut to so many parts, edges within one left out."""

    def cut(name: str) -> str:
        return ".".join(name.split(".")[:depth])

    packages: dict[str, set[str]] = {cut(name): set() for name in graph}
    for name, targets in graph.items():
        packages[cut(name)] |= {cut(target) for target in targets} - {cut(name)}
    return packages


def _finish(graph: Graph, start: str, seen: set[str], order: list[str]) -> None:
    """Append what can be reached from `start` and was not seen, each after all that it leads to."""
    if start in seen:
        return
    seen.add(start)
    stack: list[tuple[str, Iterator[str]]] = [(start, iter(sorted(graph[start])))]
    while stack:
        name, rest = stack[-1]
        target = next((each for each in rest if each in graph and each not in seen), None)
        if target is None:
            order.append(name)
            stack.pop()
        else:
            seen.add(target)
            stack.append((target, iter(sorted(graph[target]))))


def _imports(path: Path, name: str, known: set[str], typing_only: bool) -> Iterator[str]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in _statements(ast.parse(path.read_text(encoding="utf-8")), typing_only):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                if inner in known:
                    yield inner
                elif source in known:
                    yield source


def _statements(tree: ast.AST, typing_only: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not typing_only:
            yield from (inner for part in node.orelse for inner in [part, *_statements(part, typing_only)])
            continue
        yield node
        yield from _statements(node, typing_only)
