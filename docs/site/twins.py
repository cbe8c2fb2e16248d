"""The site for programs: a `.md` twin of each page, `llms.txt` and `llms-full.txt` (llmstxt.org).

In: the Markdown of the pages. Out: files beside the HTML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

_INTRO = (
    "# Stocktide\n\n"
    "> One true stock count for goods that are sold in many places at once: a stream processor in Python on Kafka and"
    " Redis (or Valkey). Storefronts reserve from it and subscribe to what they may sell; warehouses send it every"
    " movement; operators set policies.\n\n"
    "Each page is Markdown and has an HTML twin beside it (`.html` in place of `.md`).\n"
)
_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# Of the first line that is prose: no heading, table, list or single link.
_FIRST_SENTENCE = re.compile(r"^(?![#|>`\d\[\s]|- |\* ).+?(?:\.(?= |$|\*)|:$|[。：])", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
# Pages of tables, which `llms-full.txt` leaves to their own addresses: it has what explains.
_LEFT_OUT_OF_FULL = ("errors", "settings", "http", "messages", "decisions", "project", "zh")


def write_twins(site: Path, texts: Mapping[Path, str], sections: Mapping[str, Sequence[Path]]) -> None:
    """Write all of them."""
    for page, text in texts.items():
        (site / page).write_text(text)
    lines = [_INTRO]
    for section, pages in sections.items():
        lines.append(f"\n## {section}\n\n")
        lines += [_entry(page, texts[page]) for page in pages]
    (site / "llms.txt").write_text("".join(lines))
    told = [page for pages in sections.values() for page in pages if page.parts[0] not in _LEFT_OUT_OF_FULL]
    full = "\n\n".join(f"<!-- {page.as_posix()} -->\n\n{texts[page].strip()}" for page in told)
    (site / "llms-full.txt").write_text(f"{_INTRO}\n{full}\n")


def _entry(page: Path, text: str) -> str:
    title = text.partition("\n")[0].removeprefix("# ")
    sentence = _FIRST_SENTENCE.search(_BLOCK.sub("", text))
    what = ": " + _LINK.sub(r"\1", sentence[0]).replace("**", "") if sentence else ""
    return f"- [{title}]({page.as_posix()}){what}\n"
