"""The yardstick of the API: an aiohttp handler that reads its body, by `python -m bench.empty_handler PORT`."""

from __future__ import annotations

import sys

import uvloop
from aiohttp import web


async def _ok(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({"ok": True})


def main() -> None:
    """Serve until killed."""
    uvloop.install()
    app = web.Application()
    app.router.add_post("/empty", _ok)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


if __name__ == "__main__":
    main()
