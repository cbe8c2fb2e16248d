"""A plain Faust agent with responses: one Lua call in Redis and one table write per order.

`python -m bench.compare.plain_agent worker --without-web` with BENCH_KAFKA, BENCH_REDIS, BENCH_APP, BENCH_PARTITIONS,
BENCH_DATA. Repeated orders are answered from its table. It waits for Redis during an outage: Faust acks an order even
after an exception.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import faust
from redis.asyncio import Redis
from redis.exceptions import RedisError

from bench.compare.strategies import HELD, REFUSED, SOCKET_SECONDS_MAX
from bench.plain_faust import plain_app

RETRY_SECONDS = 0.1

_TAKE = """
if tonumber(redis.call('GET', KEYS[1])) < tonumber(ARGV[1]) then return 0 end
redis.call('DECRBY', KEYS[1], ARGV[1])
return 1
"""


def make_app() -> faust.App:
    """The app."""
    app, name, partitions = plain_app()
    redis = Redis.from_url(os.environ["BENCH_REDIS"], socket_timeout=SOCKET_SECONDS_MAX)
    script = redis.register_script(_TAKE)
    orders = app.topic(f"{name}-requests", key_type=str, value_serializer="json", partitions=partitions)
    answers = app.topic(f"{name}-answers", value_serializer="json", partitions=1)
    table = app.Table("orders", partitions=partitions)

    async def take(sku: str, units: int) -> str:
        while True:
            try:
                return HELD if await script(keys=[f"stock:{sku}"], args=[units]) else REFUSED
            except (RedisError, OSError):
                await asyncio.sleep(RETRY_SECONDS)

    @app.agent(orders)  # type: ignore[untyped-decorator]
    async def reserve_each(stream: Any) -> None:
        async for order in stream:
            order_id = order["order_id"]
            if (state := table.get(order_id)) is None:
                state = await take(order["sku"], order["units"])
                table[order_id] = state
            await answers.send(key=order_id, value={"order_id": order_id, "state": state})

    return app


if __name__ == "__main__":
    worker = faust.Worker(make_app(), loglevel="WARN")
    worker.execute_from_commandline()
