"""Imports point in one direction, there are no import cycles, and no bare folder name is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The submodules of `stocktide` that are links, and the folders that they lead to.
FOLDERS = {
    **{name: name for name in ("streams", "tables", "agents", "api", "loadtest")},
    "client": "clients/python/src/stocktide_client",
}
# What a folder may import besides itself and `stocktide.errors`. `loadtest` uses only the contract and
# the client, which is a distribution of its own too.
MAY_IMPORT: dict[str, set[str]] = {
    "client": set(),
    "streams": set(),
    "tables": {"streams"},
    "agents": {"streams", "tables"},
    "api": {"streams", "tables"},
    "loadtest": {"streams", "client"},
}


def _sources() -> dict[str, Path]:
    """Every module of the product, by its full name."""
    found = {}
    for folder, place in (*FOLDERS.items(), ("", "stocktide")):
        for path in (ROOT / place).rglob("*.py"):
            parts = path.relative_to(ROOT / place).with_suffix("").parts
            if not folder and parts[0] in FOLDERS:
                continue  # the link to a folder
            found[".".join(("stocktide", folder, *parts) if folder else ("stocktide", *parts))] = path
    return {name.removesuffix(".__init__"): path for name, path in found.items()}


def _imports(name: str, tree: ast.Module, modules: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            # Only the client has relative imports: it has another name where it is installed by itself.
            module = f"stocktide.client.{node.module}" if node.level else node.module
            for alias in node.names:
                full = f"{module}.{alias.name}"
                if full in modules:
                    yield full
                elif module in modules and module != name:
                    yield module


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    sources = _sources()
    return {name: set(_imports(name, ast.parse(path.read_text()), set(sources))) for name, path in sources.items()}


def test_no_module_imports_itself_through_others(graph: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_a_cycle_through_an_import_inside_a_function_is_seen() -> None:
    texts = {"stocktide.a": "def late():\n    from stocktide import b\n", "stocktide.b": "import stocktide.a\n"}
    graph = {name: set(_imports(name, ast.parse(text), set(texts))) for name, text in texts.items()}
    with pytest.raises(CycleError):
        TopologicalSorter(graph).prepare()


def test_each_folder_imports_only_what_lies_before_it(graph: dict[str, set[str]]) -> None:
    wrong = [
        f"{name} imports {other}"
        for name, others in graph.items()
        if (folder := name.split(".")[1] if "." in name else "") in MAY_IMPORT
        for other in others - ({"stocktide.errors"} if folder != "client" else set())
        if other.split(".")[1:2] not in [[each] for each in (*MAY_IMPORT[folder], folder)]
    ]
    assert not wrong


def test_every_exception_has_the_one_root(graph: dict[str, set[str]]) -> None:
    bare = [
        f"{name}.{node.name}"
        for name, path in _sources().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base) in ("Exception", "RuntimeError") for base in node.bases)
    ]
    assert bare == ["stocktide.client.errors.StocktideError"]


def test_a_worker_needs_nothing_of_the_api(graph: dict[str, set[str]]) -> None:
    seen: set[str] = set()
    left = [name for name in graph if name.startswith("stocktide.worker")]
    assert left
    while left:
        name = left.pop()
        left += graph[name] - seen
        seen |= graph[name]
    assert [name for name in seen if name == "stocktide.api" or name.startswith("stocktide.api.")] == []
