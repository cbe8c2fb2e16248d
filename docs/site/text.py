"""Markdown of a forge as Markdown of the site.

In: the text of a file and where files become pages. Out: the text of its page, or what is wrong with it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

FORGE = "https://github.com/stocktide/stocktide/blob/main/"
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_FENCE = re.compile(r"^\s*(```|~~~)")
_ITEM = re.compile(r"^( *)([-*]|\d+\.) ")
_CODE_SPAN = re.compile(r"(`+[^`]*`+)")
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
_FOREIGN = ("http://", "https://", "mailto:")


class PageError(Exception):
    """What is wrong with a page, with its file."""


def title_of(text: str, source: Path) -> str:
    """The first heading. Raises PageError."""
    found = _TITLE.search(text)
    if found is None:
        raise PageError(f"{source}: it has no heading `# …`, which is its title")
    return found[1].strip()


def as_page(text: str, source: Path, pages: Mapping[Path, Path], root: Path) -> str:
    """The text with lists as the generator reads them and with links between pages. Raises PageError."""
    lines = []
    for line, is_code in _lines(_with_lists(text)):
        lines.append(line if is_code else _with_links(line, source, pages, root))
    return "\n".join(lines) + "\n"


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it is in a block of code."""
    is_code = False
    for line in text.splitlines():
        if _FENCE.match(line):
            is_code = not is_code
            yield line, True
        else:
            yield line, is_code


def _with_lists(text: str) -> str:
    """Python-Markdown wants an empty line before a list, and four blanks before what belongs to an item."""
    lines: list[str] = []
    in_list = False
    for line, is_code in _lines(text):
        item = _ITEM.match(line)
        if item and not is_code:
            if not in_list and lines and lines[-1].strip():
                lines.append("")
            in_list = True
        elif line.strip() and not line.startswith(" "):
            in_list = False
        blanks = len(line) - len(line.lstrip(" "))
        if in_list and 2 <= blanks <= 3:
            line = "    " + line.lstrip(" ")
        lines.append(line)
    return "\n".join(lines)


def _with_links(line: str, source: Path, pages: Mapping[Path, Path], root: Path) -> str:
    parts = _CODE_SPAN.split(line)
    # A link's text may be code, so that only what follows `](` is looked at; code itself has no links.
    for index, part in enumerate(parts):
        if index % 2 == 0:
            parts[index] = _LINK.sub(lambda found: found[1] + _moved(found[2], source, pages, root) + found[3], part)
    return "".join(parts)


def _moved(target: str, source: Path, pages: Mapping[Path, Path], root: Path) -> str:
    """A link of a file as a link of its page: to a page, or to the forge."""
    if target.startswith((*_FOREIGN, "#")):
        return target
    path, mark, anchor = target.partition("#")
    file = Path(os.path.normpath(source.parent / path))
    if path.endswith("/") or (root / file).is_dir():
        file = file / "README.md" if (root / file / "README.md").exists() else file
    if page := pages.get(file):
        return os.path.relpath(page, pages[source].parent) + mark + anchor
    if file.parts[:1] == ("..",) or not (root / file).exists():
        raise PageError(f"{source}: the link {target} leads to no file")
    return FORGE + file.as_posix() + mark + anchor
