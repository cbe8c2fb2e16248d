"""An HTTP service on aiohttp: the yardstick of the API, or a strategy behind `POST /v1/orders`.

`python -m bench.service empty PORT` only reads the bodies. `python -m bench.service STRATEGY PORT STORE_URL` answers as
Stocktide's API does. 201: held; 409: refused; 503: the store does not answer.
"""

from __future__ import annotations

import sys
from pathlib import Path

import orjson
import uvloop
from aiohttp import web

from bench.http_load import ORDERS_PATH
from bench.servers import ModuleProcess
from bench.strategies import HELD, OUTAGES, STRATEGIES, ReserveStrategy
from stocktide.embedded.ports import is_port_free

EMPTY_PATH = "/empty"


def service(port: int, log: Path, *arguments: str) -> ModuleProcess:
    """The service's process. `arguments`: `empty`, or the strategy and the URL of its store."""
    name, *url = arguments
    return ModuleProcess("bench.service", name, str(port), *url, log=log, ready=lambda: not is_port_free(port))


def make_app(strategy: ReserveStrategy) -> web.Application:
    """The application around a strategy."""

    async def place(request: web.Request) -> web.Response:
        order = orjson.loads(await request.read())
        line = order["lines"][0]
        try:
            state = await strategy.reserve(order["order_id"], line["sku"], line["quantity"])
        except OUTAGES as error:
            return _json_response({"detail": f"{type(error).__name__}: {error}"}, 503)
        return _json_response({**order, "state": state}, 201 if state == HELD else 409)

    async def close(_: web.Application) -> None:
        await strategy.close()

    app = web.Application()
    app.router.add_post(ORDERS_PATH, place)
    app.on_cleanup.append(close)
    return app


def _json_response(body: object, status: int) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


async def _read_body(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({"ok": True})


async def _make_app(name: str, *url: str) -> web.Application:
    if name != "empty":
        return make_app(STRATEGIES[name](*url))  # inside the loop, which the store's clients need
    app = web.Application()
    app.router.add_post(EMPTY_PATH, _read_body)
    return app


if __name__ == "__main__":
    uvloop.install()
    name, port, *url = sys.argv[1:]
    web.run_app(_make_app(name, *url), host="127.0.0.1", port=int(port), access_log=None, print=None)
