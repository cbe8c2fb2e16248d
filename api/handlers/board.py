"""Serves the live board, the static files of the folder `board`, and the pages of error codes.

In: a request for `/`, a file of the board, or a code. Out: the file or the page, or 404.
"""

from __future__ import annotations

import re
from pathlib import Path

from aiohttp import web

from stocktide.api import problems
from stocktide.api.errors.pages import page_of

BOARD_FOLDER = Path(__file__).parents[1] / "board"
# The next load shows a new version of the board.
_HEADERS = {
    "Cache-Control": "no-cache",
    # A name that were taken for markup could still load and run nothing. `connect-src 'self'` covers the sockets.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_TYPES = frozenset({".css", ".js", ".svg", ".html", ".png", ".ico"})
# A file in folders of the board. No part begins with a dot, so no path leads out of it, and none holds a separator.
_PATH = re.compile(r"(\w[\w.-]*/){0,3}\w[\w.-]*", re.ASCII)


class BoardHandlers:
    """Serves the files of the board and the pages of error codes."""

    async def index(self, request: web.Request) -> web.StreamResponse:
        """`GET /`."""
        page = BOARD_FOLDER / "index.html"
        if page.is_file():
            return web.FileResponse(page, headers=_HEADERS)
        return web.Response(text="Stocktide runs. The board is not installed; the API is below /v1.\n")

    async def file(self, request: web.Request) -> web.StreamResponse:
        """`GET /board/{path}`."""
        name = request.match_info["path"]
        path = BOARD_FOLDER / name
        if not _PATH.fullmatch(name) or path.suffix not in _TYPES or not path.is_file():
            return problems.not_found("not_found", "The board has no such file.")
        return web.FileResponse(path, headers=_HEADERS)

    async def problem(self, request: web.Request) -> web.StreamResponse:
        """`GET /problems/{code}`."""
        page = page_of(request.match_info["code"])
        if page is None:
            return problems.not_found("not_found", "There is no error of this code.")
        return web.Response(text=page, content_type="text/html")
