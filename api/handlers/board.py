"""The live board: files of the folder `board`, as they are.

In: a request for `/` or one of the board's files. Out: the file; 404 where there is none.
"""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from stocktide.api import problems

BOARD_FOLDER = Path(__file__).parents[1] / "board"
# A new version of the board is seen at the next load.
_HEADERS = {"Cache-Control": "no-cache"}
_TYPES = frozenset({".css", ".js", ".svg", ".html", ".png", ".ico"})


class BoardHandlers:
    """Serves the files of `folder`."""

    def __init__(self, folder: Path = BOARD_FOLDER) -> None:
        self._folder = folder

    async def index(self, request: web.Request) -> web.StreamResponse:
        """`GET /`."""
        page = self._folder / "index.html"
        if page.is_file():
            return web.FileResponse(page, headers=_HEADERS)
        return web.Response(text="Stocktide runs. The board is not installed; the API is below /v1.\n")

    async def file(self, request: web.Request) -> web.StreamResponse:
        """`GET /board/{name}`."""
        name = request.match_info["name"]
        path = self._folder / name
        # A name that is more than a name would lead out of the folder.
        if Path(name).name != name or path.suffix not in _TYPES or not path.is_file():
            return problems.not_found("not_found", "The board has no such file.")
        return web.FileResponse(path, headers=_HEADERS)
