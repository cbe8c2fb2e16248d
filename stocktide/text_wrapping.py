"""Text that is wider than the terminal, wrapped between words; what goes into a pipe or a file stays as it is.

In: a line or a name, and a width. Out: lines. A word that alone is wider is broken at the edge: nothing else is left.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator

from rich.cells import cell_len, chop_cells

# Narrower than this nothing is readable: such a terminal breaks the lines itself.
WIDTH_MIN = 40
_WORD = re.compile(r"\s*\S+")
_WORD_OF_NAME = re.compile(r"[^-_.:/]*[-_.:/]*")


def terminal_width() -> int | None:
    """Columns of the terminal, or COLUMNS where it is set; None where there is neither: nothing has to be wrapped."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS"):
        return None
    return max(WIDTH_MIN, shutil.get_terminal_size().columns)


def wrapped(line: str, width: int | None, indent: int = 0) -> list[str]:
    """The line in pieces of at most `width` cells; those after the first are indented."""
    if width is None or cell_len(line) <= width:
        return [line]
    return list(_filled(_WORD.findall(line), width, indent))


def name_lines(name: str, width: int) -> list[str]:
    """A name in pieces of at most `width` cells: `hangzhou-bonded-warehouse` breaks after its hyphens only."""
    return [name] if cell_len(name) <= width else list(_filled(_WORD_OF_NAME.findall(name), width, 0))


def _filled(words: Iterable[str], width: int, indent: int) -> Iterator[str]:
    """Words as they are, put on as few lines as they fit on; none begins with white space but the first."""
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
