"""`python -m tests.faults.mutants NAME -- worker|api …`: runs Stocktide with the edits of mutant NAME.

In: a mutant. Out: Stocktide's own command line, in this process, with edited source text. If an edit does not apply
exactly once, the process ends before anything is loaded, so that a mutant never silently runs the unmodified product.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from tests.faults.mutations import Edit, Mutant, find_mutant

ROOT = Path(__file__).parents[2]
_LUA = ROOT / "tables" / "ledger" / "lua"


class EditNotApplicable(Exception):
    """The text that a mutant replaces is not in the file exactly once: the product has changed."""


def apply_edits(text: str, edits: Sequence[Edit]) -> str:
    """`text` with all edits applied. Raises EditNotApplicable."""
    for edit in edits:
        if (count := text.count(edit.old)) != 1:
            raise EditNotApplicable(f"{edit.file} holds {count} times: {edit.old}")
        text = text.replace(edit.old, edit.new)
    return text


def edited_files(mutant: Mutant) -> dict[Path, str]:
    """The edited text of each file of a mutant. Raises EditNotApplicable."""
    by_file: dict[Path, list[Edit]] = defaultdict(list)
    for edit in mutant.edits:
        by_file[ROOT / edit.file].append(edit)
    return {file: apply_edits(file.read_text("utf-8"), edits) for file, edits in by_file.items()}


def install(mutant: Mutant) -> None:
    """Let this process load the mutant's text instead of the product's. Raises EditNotApplicable."""
    texts = edited_files(mutant)
    modules = {_module_of(file): text for file, text in texts.items() if file.suffix == ".py"}
    loaded = modules.keys() & sys.modules.keys()
    assert not loaded, f"loaded before it could be edited: {loaded}"
    sys.meta_path.insert(0, _Finder(modules))
    if any(file.suffix == ".lua" for file in texts):
        from stocktide.tables.ledger import scripts

        scripts._FOLDER = _Folder(_LUA, texts)  # type: ignore[assignment]


def _module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "stocktide" else ("stocktide", *parts))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds modules as the other finders do, but replaces their text."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._texts:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = next(spec for finder in others if (spec := finder.find_spec(name, path, target)) is not None)
        assert found.origin is not None and Path(found.origin).is_relative_to(ROOT), found
        return importlib.util.spec_from_file_location(
            name, found.origin, loader=_Loader(name, found.origin, self._texts)
        )


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, file: str, texts: Mapping[str, str]) -> None:
        super().__init__(name, file)
        self._text = texts[name]

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._text, self.path, "exec", dont_inherit=True)


class _Folder:
    """The Lua folder as `tables.ledger.scripts` reads it: the part of `Path` that it uses."""

    def __init__(self, path: Path, texts: Mapping[Path, str]) -> None:
        self._path = path
        self._texts = texts

    def __truediv__(self, name: str) -> _Folder:
        return _Folder(self._path / name, self._texts)

    def read_text(self, encoding: str = "utf-8") -> str:
        return self._texts.get(self._path) or self._path.read_text(encoding)


def main(arguments: Sequence[str]) -> Any:
    name, dashes, *rest = arguments
    assert dashes == "--", "python -m tests.faults.mutants NAME -- worker|api …"
    install(find_mutant(name))
    from stocktide.__main__ import main as stocktide_main

    sys.argv = ["stocktide", *rest]
    return stocktide_main()


if __name__ == "__main__":
    main(sys.argv[1:])
