"""The site of docs/: what becomes a page, and what is an error. `make check` builds the site itself."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from docs.site.__main__ import make_texts
from docs.site.built import faults_of
from docs.site.navigation import sections_of
from docs.site.sources import ROOT, find_sources
from docs.site.text import FORGE, PageError, as_page
from docs.site.twins import write_twins
from stocktide.api.errors.codes import CODES
from stocktide.settings import Settings

CHINESE = sorted((ROOT / "docs/zh").rglob("*.md"))


@pytest.fixture(scope="module")
def texts() -> dict[Path, str]:
    return make_texts()


def page(text: str) -> str:
    """The page of a file `docs/a.md` beside `docs/b/README.md`."""
    pages = {Path("docs/a.md"): Path("a.md"), Path("docs/decisions/README.md"): Path("decisions/index.md")}
    return as_page(text, Path("docs/a.md"), pages, ROOT)


def test_every_error_code_and_every_setting_has_a_page(texts: dict[Path, str]) -> None:
    wanted = {f"errors/{code}.md" for code in CODES} | {f"settings/{each.name}.md" for each in fields(Settings)}
    assert not wanted - {path.as_posix() for path in texts}


def test_every_page_is_in_the_navigation_or_behind_an_index(texts: dict[Path, str]) -> None:
    assert "More" not in sections_of(texts)


def test_a_page_that_no_section_names_is_shown_after_all(texts: dict[Path, str]) -> None:
    assert sections_of([*texts, Path("new.md")])["More"] == [Path("new.md")]


def test_a_page_of_the_navigation_that_is_missing_is_an_error(texts: dict[Path, str]) -> None:
    with pytest.raises(PageError, match=r"^rules\.md is in the navigation"):
        sections_of([path for path in texts if path != Path("rules.md")])


def test_links_lead_to_pages_or_to_the_forge() -> None:
    assert "(decisions/index.md#x)" in page("[a](decisions/README.md#x)")
    assert "(decisions/index.md)" in page("[a](decisions/)")
    assert f"({FORGE}LICENSE)" in page("[`a`](../LICENSE)")
    assert "(#x) (https://a.test/)" in page("[a](#x) (https://a.test/)")
    assert "`[a](nowhere.md)`" in page("`[a](nowhere.md)`")


def test_a_link_that_leads_to_no_file_is_an_error() -> None:
    with pytest.raises(PageError, match=r"docs/a.md: the link nowhere.md leads to no file"):
        page("[a](nowhere.md)")


def test_lists_are_lists_for_the_generator_too() -> None:
    assert page("text:\n- one\n  - two\n\nend") == "text:\n\n- one\n    - two\n\nend\n"
    assert page("```\na\n- b\n  c\n```") == "```\na\n- b\n  c\n```\n"


def site(folder: Path, **pages: str) -> list[str]:
    for name, body in pages.items():
        (folder / f"{name}.html").write_text(f"<html><body>{body}</body></html>")
    return faults_of(folder)


def test_a_good_site_has_no_fault(tmp_path: Path) -> None:
    index = '<a href="other.html#part">a</a> <a href="https://a.test/">b</a> <a href="./">c</a> <img src="other.html">'
    assert site(tmp_path, index=index, other='<h2 id="part"></h2>') == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="gone.html">', "index.html: the link gone.html leads to no file"),
        ('<a href="../other.html">', "index.html: the link ../other.html leads to no file"),
        ('<a href="#gone">', "index.html: the link #gone leads to no heading"),
        ('<a href="other.html#gone">', "index.html: the link other.html#gone leads to no heading"),
        ('<img src="gone.png">', "index.html: the link gone.png leads to no file"),
        ('<script src="https://cdn.test/a.js"></script>', "index.html: it loads https://cdn.test/a.js"),
        ('<script src="//cdn.test/a.js"></script>', "index.html: it loads //cdn.test/a.js"),
        ('<link rel="preconnect" href="https://cdn.test">', "index.html: it loads https://cdn.test"),
        ('<p style="background: url(https://cdn.test/a.png)">', "index.html: it loads https://cdn.test/a.png"),
    ],
)
def test_a_dead_link_or_a_file_of_another_host_is_a_fault(tmp_path: Path, body: str, fault: str) -> None:
    assert site(tmp_path, index=f'<a href="other.html">a</a> {body}', other="") == [fault]


def test_a_style_sheet_that_loads_from_another_host_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("@import 'https://cdn.test/b.css'; p { background: url(data:image/png,1) }")
    assert site(tmp_path, index="") == ["a.css: it loads https://cdn.test/b.css"]


def test_a_page_without_a_link_to_it_is_a_fault(tmp_path: Path) -> None:
    assert site(tmp_path, index="", other="") == ["other.html: no page links to it"]


def test_no_file_of_the_program_becomes_a_page() -> None:
    assert not [source for source in find_sources() if source.is_relative_to("docs/site")]


@pytest.mark.parametrize("path", CHINESE, ids=lambda path: path.relative_to(ROOT / "docs/zh").as_posix())
def test_a_chinese_page_has_the_commands_and_the_chapters_of_its_english_one(path: Path) -> None:
    english = ROOT / "docs" / path.relative_to(ROOT / "docs/zh")
    if path.parent.name == "zh" and path.name == "README.md":  # the home page, which has no twin of that name
        return
    blocks, chapters = r"```\w*\n.*?```", r"^#+ "
    for pattern in (blocks, chapters):
        assert re.findall(pattern, path.read_text(), re.DOTALL | re.MULTILINE) == re.findall(
            pattern, english.read_text(), re.DOTALL | re.MULTILINE
        )


def test_every_concept_is_there_in_chinese_too() -> None:
    names = {path.name for path in (ROOT / "docs/concepts").glob("*.md")}
    assert names == {path.name for path in (ROOT / "docs/zh/concepts").glob("*.md")}


def test_programs_get_markdown_beside_each_page_and_a_list_of_all(tmp_path: Path) -> None:
    pages = {
        Path("a.md"): "# A\n\n[简体中文](zh/a.md)\n\n```\ncode: it.\n```\n\n**What** [it](b.md) is. More.\n",
        Path("b.md"): "# B\n\n| table |\n",
    }
    write_twins(tmp_path, pages, {"Start": list(pages)})
    assert (tmp_path / "a.md").read_text() == pages[Path("a.md")]
    listed = (tmp_path / "llms.txt").read_text()
    assert listed.startswith("# Stocktide\n\n> ")
    assert listed.endswith("\n## Start\n\n- [A](a.md): What it is.\n- [B](b.md)\n")
    assert pages[Path("a.md")].strip() in (tmp_path / "llms-full.txt").read_text()
