"""The navigation of the site.

In: the pages that there are. Out: sections with their pages in order; a page that no section names is in `More`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from docs.site.text import PageError

_CONCEPTS = ("concepts/stock-kinds.md", "concepts/modes.md", "concepts/promises.md", "concepts/journal.md")
# A name that ends in `?` may be missing, a pattern may match nothing; any other name without a page is an error.
SECTIONS: dict[str, tuple[str, ...]] = {
    "Start": ("index.md", "tour.md", "first-hour.md", "examples/*"),
    "Concepts": ("concepts/index.md", *_CONCEPTS, "concepts/*"),
    "Recipes": ("recipes/index.md", "recipes/*", "intake.md", "webhooks.md", "clients/*"),
    "Contract": ("rules.md", "access.md", "http/index.md", "http/*", "messages/*", "errors.md", "settings/index.md"),
    "Operations": ("operations.md", "alerts.md?", "reports.md", "deployment.md?", "deploy/*", "releasing.md"),
    "Evidence": ("performance.md", "reliability.md"),
    "Design": ("architecture.md", "glossary.md", "decisions/index.md"),
    "Project": ("project/*",),
    "简体中文": ("zh/index.md", "zh/tour.md", "zh/concepts/index.md", *(f"zh/{page}" for page in _CONCEPTS)),
}
# So many pages that their index alone is in the navigation; each is linked from there.
BEHIND_AN_INDEX = ("errors/*", "settings/*", "decisions/*")
_REST = "More"


def sections_of(pages: Iterable[Path]) -> dict[str, list[Path]]:
    """The pages of each section in order. Raises PageError for a name that matches none."""
    left = dict.fromkeys(sorted(pages))
    sections: dict[str, list[Path]] = {}
    for section, patterns in SECTIONS.items():
        sections[section] = []
        for pattern in patterns:
            name = pattern.removesuffix("?")
            found = [page for page in left if fnmatchcase(page.as_posix(), name) and page.parent == Path(name).parent]
            if not found and not pattern.endswith("?") and "*" not in pattern:
                raise PageError(f"{name} is in the navigation (docs/site/navigation.py), but there is no such page")
            sections[section] += found
            for page in found:
                del left[page]
    rest = [page for page in left if not any(fnmatchcase(page.as_posix(), name) for name in BEHIND_AN_INDEX)]
    return sections | ({_REST: rest} if rest else {})


def as_toml(sections: Mapping[str, list[Path]], titles: Mapping[Path, str]) -> str:
    """The navigation as a value of the generator's configuration."""
    entries = []
    for section, pages in sections.items():
        links = ", ".join(f"{{ {_text(titles[page])} = {_text(page.as_posix())} }}" for page in pages)
        entries.append(f"  {{ {_text(section)} = [{links}] }},\n")
    return f"nav = [\n{''.join(entries)}]\n"


def _text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
