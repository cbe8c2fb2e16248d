"""The door of a way: an aiohttp service that answers `POST /v1/orders`, as Stocktide's API does.

`python -m bench.compare.service WAY PORT STORE_URL`. 201 is held, 409 refused, 503 that the store does not answer.
"""

from __future__ import annotations

import sys

import orjson
import uvloop
from aiohttp import web

from bench.compare.strategies import HELD, OUTAGES, STRATEGIES, ReserveStrategy


class ReserveService:
    """The handlers."""

    def __init__(self, way: ReserveStrategy) -> None:
        self._way = way

    async def place(self, request: web.Request) -> web.Response:
        """`POST /v1/orders`."""
        order = orjson.loads(await request.read())
        line = order["lines"][0]
        try:
            state = await self._way.reserve(order["order_id"], line["sku"], line["quantity"])
        except OUTAGES as error:
            return _answer({"detail": f"{type(error).__name__}: {error}"}, 503)
        return _answer({**order, "state": state}, 201 if state == HELD else 409)

    async def close(self, _: web.Application) -> None:
        """At the end."""
        await self._way.close()


def _answer(body: object, status: int) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


def make_app(way: ReserveStrategy) -> web.Application:
    """The service."""
    door = ReserveService(way)
    app = web.Application()
    app.router.add_post("/v1/orders", door.place)
    app.on_cleanup.append(door.close)
    return app


async def _make_app(name: str, url: str) -> web.Application:
    return make_app(STRATEGIES[name](url))  # inside the loop: clients belong to it


def main() -> None:
    """Serve until killed."""
    uvloop.install()
    name, port, url = sys.argv[1:4]
    web.run_app(_make_app(name, url), host="127.0.0.1", port=int(port), access_log=None, print=None)


if __name__ == "__main__":
    main()
