"""The HTTP service around a strategy: it answers `POST /v1/orders` as Stocktide's API does.

`python -m bench.compare.service STRATEGY PORT STORE_URL`. 201: held; 409: refused; 503: the store does not answer.
"""

from __future__ import annotations

import sys

import orjson
import uvloop
from aiohttp import web

from bench.compare.strategies import HELD, OUTAGES, STRATEGIES, ReserveStrategy


class ReserveService:
    """The handlers."""

    def __init__(self, strategy: ReserveStrategy) -> None:
        self._strategy = strategy

    async def place(self, request: web.Request) -> web.Response:
        """`POST /v1/orders`."""
        order = orjson.loads(await request.read())
        line = order["lines"][0]
        try:
            state = await self._strategy.reserve(order["order_id"], line["sku"], line["quantity"])
        except OUTAGES as error:
            return _json_response({"detail": f"{type(error).__name__}: {error}"}, 503)
        return _json_response({**order, "state": state}, 201 if state == HELD else 409)

    async def close(self, _: web.Application) -> None:
        """aiohttp's callback at the end."""
        await self._strategy.close()


def _json_response(body: object, status: int) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


def make_app(strategy: ReserveStrategy) -> web.Application:
    """The application."""
    service = ReserveService(strategy)
    app = web.Application()
    app.router.add_post("/v1/orders", service.place)
    app.on_cleanup.append(service.close)
    return app


async def _make_app(name: str, url: str) -> web.Application:
    return make_app(STRATEGIES[name](url))  # inside the loop, which the store's clients need


def main() -> None:
    """Serve until killed."""
    uvloop.install()
    name, port, url = sys.argv[1:4]
    web.run_app(_make_app(name, url), host="127.0.0.1", port=int(port), access_log=None, print=None)


if __name__ == "__main__":
    main()
