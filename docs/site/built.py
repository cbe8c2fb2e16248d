"""The check of the built site.

In: a folder of HTML. Out: a sentence for each dead link, dead anchor, file of another host, and page without a link.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Elements that a browser loads by itself, and their attributes. Links that a reader follows may lead elsewhere.
_LOADED = {"src", "srcset", "poster", "data"}
_LOADED_LINKS = {"stylesheet", "preload", "preconnect", "dns-prefetch", "modulepreload", "icon", "manifest", "prefetch"}
_FOREIGN_IN_CSS = re.compile(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)")
_NOT_A_FILE = ("mailto:", "javascript:", "data:")
# The generator's page for paths that do not exist: nothing links to it, and its links are those of the host.
_LINKED_BY_NOTHING = {"404.html", "index.html"}


@dataclass
class _Page(HTMLParser):
    """What a page loads, links to, and can be linked by."""

    loaded: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value is not None}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        self.loaded += [value for name, value in given.items() if name in _LOADED]
        if given.get("data-md-component") == "source":
            self.loaded.append("//the forge, for numbers of the repository")
        if "style" in given:
            self.loaded += _FOREIGN_IN_CSS.findall(given["style"])
        if "href" in given:
            is_loaded = tag == "link" and _LOADED_LINKS & set(given.get("rel", "").split())
            (self.loaded if is_loaded else self.links).append(given["href"])


def faults_of(site: Path) -> list[str]:
    """A sentence for each fault; none for a good site."""
    files = {file.relative_to(site).as_posix() for file in site.rglob("*") if file.is_file()}
    folders = {posixpath.dirname(name) or "." for name in files}
    pages = {name: _read(site / name) for name in sorted(files) if name.endswith(".html")}
    linked: set[str] = set(_LINKED_BY_NOTHING)
    faults = []
    for name, page in pages.items():
        faults += [f"{name}: it loads {address}" for address in page.loaded if _host(address)]
        for address in (*page.loaded, *page.links):
            if _host(address) or address.startswith(_NOT_A_FILE) or name == "404.html":
                continue
            target, anchor = _target(name, address)
            if target in folders:
                target = posixpath.normpath(posixpath.join(target, "index.html"))
            if target not in files:
                faults.append(f"{name}: the link {address} leads to no file")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                faults.append(f"{name}: the link {address} leads to no heading")
            if target != name:
                linked.add(target)
    faults += [f"{name}: no page links to it" for name in pages if name not in linked]
    return faults + list(_foreign_in_files(site))


def _read(file: Path) -> _Page:
    page = _Page()
    page.feed(file.read_text())
    return page


def _host(address: str) -> str:
    try:
        return urlsplit(address).netloc
    except ValueError:
        return address


def _target(page: str, address: str) -> tuple[str, str]:
    """The file or folder that a link leads to, from the root of the site, and the anchor in it."""
    parts = urlsplit(address)
    anchor = unquote(parts.fragment)
    if not parts.path:
        return page, anchor
    target = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(parts.path)))
    return target, anchor


def _foreign_in_files(site: Path) -> Iterator[str]:
    """Addresses of other hosts that style sheets load."""
    for file in sorted(site.rglob("*.css")):
        for address in _FOREIGN_IN_CSS.findall(file.read_text()):
            yield f"{file.relative_to(site)}: it loads {address}"
