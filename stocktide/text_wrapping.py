"""Wraps text that is wider than the terminal; output into a pipe or a file is not wrapped.

In: a line or a name, and a width. Out: lines, broken between words, or within a word that is wider than a line.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator

from rich.cells import cell_len, chop_cells

# In a narrower terminal nothing is readable.
WIDTH_MIN = 40
_WORD = re.compile(r"\s*\S+")
_WORD_OF_NAME = re.compile(r"[^-_.:/]*[-_.:/]*")


def terminal_width() -> int | None:
    """Columns of the terminal or COLUMNS; None where there is neither."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS"):
        return None
    return max(WIDTH_MIN, shutil.get_terminal_size().columns)


def wrapped(line: str, width: int | None, indent: int = 0) -> list[str]:
    """The line in pieces of at most `width` cells; all but the first are indented."""
    if width is None or cell_len(line) <= width:
        return [line]
    return list(_fill(_WORD.findall(line), width, indent))


def name_lines(name: str, width: int) -> list[str]:
    """A name in pieces of at most `width` cells, broken after its hyphens and dots."""
    return [name] if cell_len(name) <= width else list(_fill(_WORD_OF_NAME.findall(name), width, 0))


def _fill(words: Iterable[str], width: int, indent: int) -> Iterator[str]:
    """Words on as few lines as possible; only the first line may begin with white space."""
    piece = ""
    for word in words:
        if piece.strip() and cell_len(piece + word) > width:
            yield piece
            piece, word = " " * indent, word.lstrip()
        while cell_len(piece + word) > width:
            head, *_ = chop_cells(word, width - cell_len(piece))
            yield piece + head
            piece, word = " " * indent, word[len(head) :]
        piece += word
    yield piece
