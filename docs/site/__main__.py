"""`python -m docs.site`: build the site of docs/ into build/docs. A warning, a dead link or a dead anchor is an error.

In: the Markdown of the repository and the tables of the product. Out: the site, exit status 0; or what is wrong, 1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from click import unstyle

from docs.site.built import faults_of
from docs.site.contract.calls import HttpContract
from docs.site.contract.errors import error_pages, with_links
from docs.site.contract.messages import message_pages
from docs.site.contract.settings import setting_pages
from docs.site.navigation import as_toml, sections_of
from docs.site.sources import PROGRAM, ROOT, find_sources
from docs.site.text import PageError, as_page, title_of
from docs.site.twins import write_twins

BUILD = ROOT / "build"
SITE = BUILD / "docs"
_PAGES = BUILD / "docs-pages"
_THEME = BUILD / "docs-theme"
_CONFIGURATION = BUILD / "zensical.toml"
_CHINESE = "zh"
# One mistake in the theme is a fault of every page.
_FAULTS_SHOWN_MAX = 20
# The generator needs about five seconds on a busy machine.
_SECONDS_MAX = 300


def main() -> int:
    """Build, then check what was built."""
    try:
        texts = make_texts()
        sections = sections_of(texts)
    except PageError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for folder in (SITE, _PAGES, _THEME, BUILD / ".cache"):
        shutil.rmtree(folder, ignore_errors=True)
    write_pages(texts)
    shutil.copytree(ROOT / PROGRAM / "theme", _THEME)
    shutil.copy(ROOT / PROGRAM / "site.css", _PAGES)
    titles = {page: title_of(text, page).replace("`", "") for page, text in texts.items()}
    fixed = (ROOT / PROGRAM / "zensical.toml").read_text()
    _CONFIGURATION.write_text(fixed.replace("[project]\n", f"[project]\n{as_toml(sections, titles)}", 1))
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(_CONFIGURATION)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS_MAX, check=False)
    if done.returncode:
        sys.stderr.write(unstyle(done.stdout + done.stderr))
        return 1
    write_twins(SITE, texts, sections)
    faults = faults_of(SITE)
    sys.stderr.writelines(f"{fault}\n" for fault in faults[:_FAULTS_SHOWN_MAX])
    sys.stdout.write(f"{len(texts)} pages in {SITE.relative_to(ROOT)}/, {len(faults)} faults\n")
    return 1 if faults else 0


def make_texts() -> dict[Path, str]:
    """The Markdown of every page by its path on the site. Raises PageError."""
    sources = find_sources()
    texts = {page: as_page((ROOT / file).read_text(), file, sources, ROOT) for file, page in sources.items()}
    for page, text in generated_pages(texts):
        texts[page] = text
    texts[Path("errors.md")] = with_links(texts[Path("errors.md")])
    for page in [page for page in texts if page.parts[0] == _CHINESE]:
        english = page.relative_to(_CHINESE)
        if english in texts:
            texts[page] = _with_link(texts[page], "English", os.path.relpath(english, page.parent))
            texts[english] = _with_link(texts[english], "简体中文", os.path.relpath(page, english.parent))
    return texts


def _with_link(text: str, words: str, target: str) -> str:
    """The page with a link below its title."""
    title, _, rest = text.partition("\n")
    return f"{title}\n\n[{words}]({target})\n{rest}"


def generated_pages(texts: dict[Path, str]) -> Iterator[tuple[Path, str]]:
    """The pages that are made from the tables of the product."""
    contract = HttpContract()
    folders = {
        "http": contract.pages(),
        "messages": message_pages(),
        "errors": error_pages(contract),
        "settings": setting_pages(dict(texts)),
    }
    for folder, pages in folders.items():
        for name, text in pages:
            yield Path(folder, name), text


def write_pages(texts: dict[Path, str]) -> None:
    """The pages as the generator reads them; a Chinese one says so."""
    for page, text in texts.items():
        file = _PAGES / page
        file.parent.mkdir(parents=True, exist_ok=True)
        head = f"---\nlanguage: {_CHINESE}\n---\n\n" if page.parts[0] == _CHINESE else ""
        file.write_text(head + text)


if __name__ == "__main__":
    sys.exit(main())
