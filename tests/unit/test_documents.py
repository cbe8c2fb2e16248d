"""The documents: decisions in one format and in the index, links that lead somewhere, code that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("0*.md"))


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name[:4])
def test_a_decision_has_its_number_its_three_parts_and_a_row_in_the_index(path: Path) -> None:
    text = path.read_text()
    assert text.startswith(f"# {path.name[:4]}: ")
    parts = re.findall(r"^\*\*(Context|Decision|Consequence)", text, re.MULTILINE)
    assert list(dict.fromkeys(parts)) == ["Context", "Decision", "Consequence"]
    assert f"]({path.name})" in path.with_name("README.md").read_text()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_between_documents_leads_to_a_file(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
    assert not [target for target in targets if not (path.parent / target).exists()]


@pytest.mark.parametrize("name", ["glossary.md", "architecture.md"])
def test_every_file_that_a_document_names_exists(name: str) -> None:
    named = re.findall(
        r"`((?:streams|tables|agents|api|loadtest|stocktide|tests|bench)/[\w/.]+)`", (ROOT / "docs" / name).read_text()
    )
    assert named
    assert not [path for path in named if not (ROOT / path).exists()]
