"""A linter for the ledger's Lua; `python -m tests.lua_lint [folder]`.

In: scripts, and modules in `includes/`. Out: a line `file:line: what is wrong` for each fault, and exit status 1 if
there is any: wrong syntax, names that are not defined, assignments to globals, locals and parameters that are never
read, locals that hide another, functions with too many locals, long lines, and fields of a module that it does not
have or that no file uses.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import tree_sitter_lua
from tree_sitter import Language, Node, Parser

from stocktide.tables.ledger.codes import lua_constants
from stocktide.tables.ledger.scripts import GENERATED

FOLDER = Path(__file__).parents[1] / "tables" / "ledger" / "lua"
# Lua 5.1 allows 200 in a function. A script that is sent has three more than its file (tables/ledger/scripts.py).
LOCALS_MAX = 100
LINE_MAX = 120
GLOBALS = {*lua_constants(), "require", "KEYS", "ARGV", "redis", "cmsgpack", "struct", "math", "string", "table"}
GLOBALS |= {"ipairs", "pairs", "next", "select", "unpack", "pcall", "error", "setmetatable"}
GLOBALS |= {"type", "tonumber", "tostring", "rawget", "_G"}
_PARSER = Parser(Language(tree_sitter_lua.language()))


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """What is wrong in a line."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


@dataclass(slots=True)
class Local:
    """A local variable, parameter or local function."""

    name: str
    line: int
    module: str | None = None  # that it was required from
    is_read: bool = False


@dataclass(slots=True)
class LintedFile:
    """What a file offers to others and takes from them, and its faults."""

    name: str
    exports: dict[str, int] = field(default_factory=dict)  # field -> line
    used: list[tuple[str, str, int]] = field(default_factory=list)  # module, field, line
    faults: list[Fault] = field(default_factory=list)


class FileLinter:
    """Resolves each name of one file. `_visit_x` handles a node of type `x`; other nodes have only their children."""

    def __init__(self, file: str, text: str) -> None:
        self.result = LintedFile(file)
        self._file = file
        self._scopes: list[dict[str, Local]] = []
        self._frames: list[list[int]] = []  # of each open function: the locals of its open scopes, by scope
        self._tables: dict[str, dict[str, int]] = {}  # of locals of the file: the fields that it gives them
        for number, line in enumerate(text.splitlines(), 1):
            if len(line) > LINE_MAX:
                self.result.faults.append(Fault(file, number, f"the line has more than {LINE_MAX} characters"))
        root = _PARSER.parse(text.encode()).root_node
        for broken in (node for node in _descendants(root) if node.type == "ERROR" or node.is_missing):
            self._fault(broken, "the syntax is wrong")
        self._function(root, [])

    def _fault(self, node: Node, text: str) -> None:
        self.result.faults.append(Fault(self._file, node.start_point[0] + 1, text))

    # Scopes

    def _function(self, node: Node, parameters: Iterable[Node]) -> None:
        self._frames.append([])
        self._open()
        for parameter in parameters:
            self._declare(parameter)
        body = node if node.type == "chunk" else node.child_by_field_name("body")
        if body is not None:
            self._statements(body)
        self._close()
        self._frames.pop()

    def _block(self, node: Node | None) -> None:
        if node is not None:
            self._open()
            self._statements(node)
            self._close()

    def _statements(self, node: Node) -> None:
        for child in node.named_children:
            self._visit(child)

    def _open(self) -> None:
        self._scopes.append({})
        self._frames[-1].append(0)

    def _close(self) -> None:
        for local in self._scopes.pop().values():
            if not local.is_read and not local.name.startswith("_"):
                self.result.faults.append(Fault(self._file, local.line, f"`{local.name}` is never read"))
        self._frames[-1].pop()

    def _declare(self, node: Node, module: str | None = None) -> None:
        name = _text(node)
        if name != "_" and self._find(name):
            self._fault(node, f"`{name}` hides another local of that name")
        self._scopes[-1][name] = Local(name, node.start_point[0] + 1, module)
        self._frames[-1][-1] += 1
        if sum(self._frames[-1]) == LOCALS_MAX + 1:
            self._fault(node, f"the function has more than {LOCALS_MAX} locals")

    def _find(self, name: str) -> Local | None:
        return next((scope[name] for scope in reversed(self._scopes) if name in scope), None)

    # Statements and expressions

    def _visit(self, node: Node) -> None:
        visit = getattr(self, f"_visit_{node.type}", None)
        if visit is not None:
            visit(node)
        else:
            self._statements(node)

    def _visit_comment(self, node: Node) -> None:
        pass

    def _visit_identifier(self, node: Node) -> None:
        name = _text(node)
        local = self._find(name)
        if local is not None:
            local.is_read = True
        elif name not in GLOBALS:
            self._fault(node, f"`{name}` is not defined")

    def _visit_dot_index_expression(self, node: Node) -> None:
        table, key = _child(node, "table"), _child(node, "field")
        self._visit(table)
        local = self._find(_text(table)) if table.type == "identifier" else None
        if local is not None and local.module is not None:
            self.result.used.append((local.module, _text(key), key.start_point[0] + 1))
        elif (module := _required(table)) is not None:
            self.result.used.append((module, _text(key), key.start_point[0] + 1))

    def _visit_field(self, node: Node) -> None:
        name, value = node.child_by_field_name("name"), _child(node, "value")
        if name is not None and node.children[0].type == "[":
            self._visit(name)
        self._visit(value)

    def _visit_variable_declaration(self, node: Node) -> None:
        inner = node.named_children[0]
        names, values = _names(inner), _values(inner)
        for value in values:
            self._visit(value)
        for place, name in enumerate(names):
            value = values[place] if place < len(values) else None
            self._declare(name, _required(value) if value is not None else None)
            if len(self._scopes) == 1:
                self._tables[_text(name)] = _fields(value)

    def _visit_assignment_statement(self, node: Node) -> None:
        for value in _values(node):
            self._visit(value)
        for target in _names(node):
            self._assign(target)

    def _assign(self, target: Node) -> None:
        if target.type != "identifier":
            self._visit(target)
            self._note_field(target)
        elif self._find(_text(target)) is None:
            self._fault(target, f"`{_text(target)}` is a global that is assigned to")

    def _note_field(self, target: Node) -> None:
        if target.type == "dot_index_expression" and len(self._scopes) == 1:
            fields = self._tables.get(_text(_child(target, "table")))
            if fields is not None:
                fields[_text(_child(target, "field"))] = target.start_point[0] + 1

    def _visit_function_declaration(self, node: Node) -> None:
        name = _child(node, "name")
        if node.children[0].type == "local":
            self._declare(name)
        else:
            self._assign(name)
        self._visit_function_definition(node)

    def _visit_function_definition(self, node: Node) -> None:
        parameters = [each for each in _child(node, "parameters").named_children if each.type == "identifier"]
        self._function(node, parameters)

    def _visit_do_statement(self, node: Node) -> None:
        self._block(node.child_by_field_name("body"))

    def _visit_while_statement(self, node: Node) -> None:
        self._visit(_child(node, "condition"))
        self._block(node.child_by_field_name("body"))

    def _visit_if_statement(self, node: Node) -> None:
        condition = node.child_by_field_name("condition")
        if condition is not None:
            self._visit(condition)
        self._block(node.child_by_field_name("consequence"))
        for each in node.children_by_field_name("alternative"):
            if each.type == "else_statement":
                self._block(each.child_by_field_name("body"))
            else:
                self._visit_if_statement(each)

    def _visit_for_statement(self, node: Node) -> None:
        clause = _child(node, "clause")
        self._open()
        if clause.type == "for_generic_clause":
            names, values = _names(clause), _values(clause)
        else:
            names, values = [_child(clause, "name")], clause.named_children[1:]
        for value in values:
            self._visit(value)
        for name in names:
            self._declare(name)
        body = node.child_by_field_name("body")
        if body is not None:
            self._statements(body)
        self._close()

    def _visit_return_statement(self, node: Node) -> None:
        self._statements(node)
        if node.parent is not None and node.parent.type == "chunk":
            for value in _values(node):
                named = self._tables.get(_text(value)) if value.type == "identifier" else None
                self.result.exports = named if named is not None else _fields(value)


def _text(node: Node) -> str:
    return (node.text or b"").decode()


def _child(node: Node, name: str) -> Node:
    child = node.child_by_field_name(name)
    assert child is not None, (node, name)
    return child


def _descendants(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _descendants(child)


def _names(node: Node) -> list[Node]:
    """The targets of a declaration, an assignment or a `for`."""
    found = next((child for child in node.named_children if child.type == "variable_list"), None)
    return found.named_children if found is not None else [c for c in node.named_children if c.type == "identifier"]


def _values(node: Node) -> list[Node]:
    found = next((child for child in node.named_children if child.type == "expression_list"), None)
    return found.named_children if found is not None else []


def _required(node: Node) -> str | None:
    """`offer` of `require('offer')`."""
    if node.type == "function_call" and _text(_child(node, "name")) == "require":
        return _text(_child(node, "arguments").named_children[0]).strip("'")
    return None


def _fields(node: Node | None) -> dict[str, int]:
    """The named fields of a table that is written out."""
    if node is None or node.type != "table_constructor":
        return {}
    named = (each.child_by_field_name("name") for each in node.named_children if each.children[0].type != "[")
    return {_text(name): name.start_point[0] + 1 for name in named if name is not None}


def lint(folder: Path) -> list[Fault]:
    """The faults of all scripts of `folder` and of their modules."""
    linted: dict[Path, LintedFile] = {}
    for path in sorted(folder.rglob("*.lua")):
        linted[path] = FileLinter(str(path.relative_to(folder)), path.read_text("utf-8")).result
    modules = {path.stem: result for path, result in linted.items() if path.parent != folder}
    exports = {name: result.exports.keys() for name, result in modules.items()}
    exports |= {name: FileLinter(name, generated()).result.exports.keys() for name, generated in GENERATED.items()}
    faults = [fault for result in linted.values() for fault in result.faults]
    taken = set()
    for result in linted.values():
        for module, name, line in result.used:
            taken.add((module, name))
            if name not in exports.get(module, ()):
                faults.append(Fault(result.name, line, f"the module `{module}` has no `{name}`"))
    for module, result in modules.items():
        unused = (each for each in result.exports.items() if (module, each[0]) not in taken)
        faults += (Fault(result.name, line, f"no other file uses `{name}`") for name, line in unused)
    return sorted(faults)


def main(arguments: list[str]) -> int:
    """Write the faults; 1 if there are any."""
    faults = lint(Path(arguments[0]) if arguments else FOLDER)
    sys.stdout.writelines(f"{fault}\n" for fault in faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
