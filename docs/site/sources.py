"""The files that become pages, and the place of each on the site.

In: the repository. Out: a page's path on the site for each Markdown file that people read.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
# The folder of this program, which has no pages.
PROGRAM = Path("docs/site")
# Further files than those of docs/, and the folder of each on the site.
OUTSIDE = {
    "README.md": "project",
    "CHANGELOG.md": "project",
    "CONTRIBUTING.md": "project",
    "SECURITY.md": "project",
    "CODE_OF_CONDUCT.md": "project",
    "examples/*/README.md": "examples",
    "clients/*/README.md": "clients",
    "deploy/**/README.md": "deploy",
}


def find_sources(root: Path = ROOT) -> dict[Path, Path]:
    """The path of the page on the site by the path of the file in the repository, both relative."""
    found: dict[Path, Path] = {}
    for file in sorted((root / "docs").rglob("*.md")):
        source = file.relative_to(root)
        if not source.is_relative_to(PROGRAM):
            found[source] = _as_index(source.relative_to("docs"))
    for pattern, folder in OUTSIDE.items():
        for file in sorted(root.glob(pattern)):
            source = file.relative_to(root)
            name = "-".join(source.parent.parts[1:]) or source.stem.lower().replace("_", "-")
            found[source] = Path(folder, f"{name}.md")
    return found


def _as_index(page: Path) -> Path:
    """A forge shows the README.md of a folder; a site its index."""
    return page.with_name("index.md") if page.name == "README.md" else page
