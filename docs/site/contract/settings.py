"""The pages of the settings.

In: the product's settings and the pages that name them. Out: a page for each setting, and their index.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from stocktide.settings import READ_ELSEWHERE, Settings, bounds_of

PREFIX = "STOCKTIDE_"
FOLDER = Path("settings")
_INTRO = (
    "A setting is an environment variable, read when a process starts. A misspelt one is an error;"
    " `stocktide doctor` shows them all with their values. The list is made from `stocktide/settings.py`."
)


def setting_pages(texts: Mapping[Path, str]) -> Iterator[tuple[str, str]]:
    """Each page below `settings/` with its text; `texts` are the written pages by their path on the site."""
    rows = []
    for setting in fields(Settings):
        yield f"{setting.name}.md", _page(setting, texts)
        rows.append(f"| [`{_variable(setting)}`]({setting.name}.md) | {_default(setting)} | {_help(setting)} |\n")
    table = "".join(sorted(rows))
    others = "".join(f"| `{PREFIX}{name}` | {meaning} |\n" for name, meaning in READ_ELSEWHERE.items() if meaning)
    yield (
        "index.md",
        f"# Settings\n\n{_INTRO}\n\n| variable | default | meaning |\n|---|---|---|\n{table}\n"
        f"## Variables that one part reads\n\n| variable | meaning |\n|---|---|\n{others}",
    )


def _page(setting: Field[Any], texts: Mapping[Path, str]) -> str:
    name = re.compile(rf"\b{_variable(setting)}\b")
    text = f"# {_variable(setting)}\n\n{_help(setting)[:1].upper()}{_help(setting)[1:]}.\n\n"
    text += f"- Type: {type(setting.default).__name__.replace('PosixPath', 'path')}\n- Default: {_default(setting)}\n"
    if bounds := bounds_of(setting.name):
        text += f"- Least and most: {bounds[0]} and {bounds[1]}\n"
    if naming := [page for page, written in sorted(texts.items()) if name.search(written)]:
        links = "".join(f"- [{_title(texts[page])}]({os.path.relpath(page, FOLDER)})\n" for page in naming)
        text += f"\nThese pages name it:\n\n{links}"
    return text + "\nAll settings are in the [list](index.md).\n"


def _variable(setting: Field[Any]) -> str:
    return PREFIX + setting.name.upper()


def _help(setting: Field[Any]) -> str:
    return str(setting.metadata["help"]).replace("|", "\\|")


def _default(setting: Field[Any]) -> str:
    return "empty" if setting.default == "" else f"`{setting.default}`"


def _title(text: str) -> str:
    return text.partition("\n")[0].removeprefix("# ")
