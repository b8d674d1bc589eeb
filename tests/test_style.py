"""The rules of the code base that a machine can check."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("basis", "gdn2", "harness", "tasks")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAX_MODULE_LINES, MAX_FUNCTION_LINES, MAX_POSITIONAL = 300, 80, 6
MAX_KERNEL_LINES = 150  # a Triton kernel takes its tensors one by one and is one function
FOREIGN_SIGNATURES = ("forward", "prepare_inputs_for_generation")  # transformers says what they take
OPERATOR_ARGUMENTS = {"q", "k", "v", "g", "b", "w"}  # the operator's six inputs are its mathematics


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_modules_and_functions_stay_within_their_budget(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MAX_MODULE_LINES
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            if any("triton.jit" in ast.unparse(decorator) for decorator in node.decorator_list):
                assert (node.end_lineno or 0) - node.lineno < MAX_KERNEL_LINES, node.name
                continue
            assert (node.end_lineno or 0) - node.lineno < MAX_FUNCTION_LINES, node.name
            names = {argument.arg.split("_")[0] for argument in node.args.args} - {"self", "cls"}
            if not names >= OPERATOR_ARGUMENTS and node.name not in FOREIGN_SIGNATURES:
                assert len(names) <= MAX_POSITIONAL, node.name


def public(body: list[ast.stmt], above: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """The public functions and classes of a module with the public methods of these, by name."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield above + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{above}{node.name}.")


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_modules_and_public_names_say_what_they_are(path: Path) -> None:
    """In a first sentence on a line of its own. `forward` needs none where its class says what it does."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    said: dict[str, str | None] = {"the module": ast.get_docstring(tree)} if tree.body else {}
    said |= {name: ast.get_docstring(node) for name, node in public(tree.body) if not is_exempt(name, node)}
    assert not [name for name, text in said.items() if not text], "no docstring"
    for name, text in said.items():
        first, _, rest = (text or "").partition("\n")
        assert first.endswith((".", ":", "?")), f"{name}: {first}"
        assert not rest.partition("\n")[0].strip(), f"{name}: no blank line below the first sentence"


def is_exempt(name: str, node: ast.FunctionDef | ast.ClassDef) -> bool:
    """Kernels, and what only gives another signature to a function that says what it is."""
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    return name.endswith(".forward") or any(part.endswith(("overload", "setter", "triton.jit")) for part in decorators)


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_dependencies_point_one_way(path: Path) -> None:
    """basis knows no other package, gdn2 neither tasks nor harness; tasks do not know harness."""
    forbidden = {
        "basis": {"gdn2", "tasks", "harness"},
        "gdn2": {"tasks", "harness"},
        "tasks": {"harness"},
        "harness": set(),
    }
    package = path.relative_to(ROOT).parts[0]
    assert not imported(path) & forbidden[package]


def tree(page: str) -> set[str]:
    """The paths in a page's first indented tree, from the root: `gdn2/ops/naive.py`, `harness/cli/`."""
    block = next(
        text for text in (ROOT / page).read_text(encoding="utf-8").split("```")[1::2] if "run_eval.py " in text
    )
    found, above = set(), [""]
    for line in block.splitlines():
        if match := re.match(r"( *)([\w./-]+(?:\.py|/))(?= )", line):
            depth = len(match[1]) // 2
            assert depth < len(above), f"{page}: {line!r} is indented below nothing"
            path = above[depth] + match[2]
            assert path not in found, f"{page}: {path} twice"
            found.add(path)
            above[depth + 1 :] = [path]
    return found


@pytest.mark.parametrize("page", ["docs/architecture.md", "README.md"])
def test_what_a_tree_names_exists_where_it_says(page: str) -> None:
    for path in tree(page):
        there = ROOT / path
        assert there.is_dir() if path.endswith("/") else there.is_file(), f"{page}: {path} does not exist"


def test_the_tree_in_the_architecture_page_has_every_module() -> None:
    modules = {ids(path) for path in MODULES if path.name not in ("__init__.py", "__main__.py")}
    assert not modules - tree("docs/architecture.md")


def test_the_tree_in_the_readme_has_every_folder_at_the_top_and_every_room_of_the_harness() -> None:
    hidden = re.compile(r"\.|__|build$|runs$|.*\.egg-info$")
    folders = {f"{path.name}/" for path in ROOT.iterdir() if path.is_dir() and not hidden.match(path.name)}
    rooms = {f"harness/{path.parent.name}/" for path in (ROOT / "harness").glob("*/__init__.py")}
    assert not (folders | rooms) - tree("README.md")


def test_links_of_the_documentation_lead_somewhere() -> None:
    for page in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
