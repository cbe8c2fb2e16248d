"""The yardstick of the worker: a plain Faust agent with one Lua call and one table write per event.

`python -m bench.plain_faust worker` with BENCH_KAFKA, BENCH_REDIS, BENCH_APP, BENCH_TOPIC, BENCH_PARTITIONS and
BENCH_DATA. Progress is the Redis counter `{BENCH_APP}:done`, incremented by the Lua call.
"""

from __future__ import annotations

import os
from typing import Any

import faust
from redis.asyncio import Redis

_RESERVE = """
local left = redis.call('HINCRBY', KEYS[1], 'available', -1)
redis.call('INCR', KEYS[2])
return left
"""


def plain_app() -> tuple[faust.App, str, int]:
    """An app as in Faust's documentation; its name, and the partitions of its topics."""
    name, partitions = os.environ["BENCH_APP"], int(os.environ["BENCH_PARTITIONS"])
    app = faust.App(
        name,
        broker=f"kafka://{os.environ['BENCH_KAFKA']}",
        store="memory://",
        topic_partitions=partitions,
        web_enabled=False,
        datadir=os.environ["BENCH_DATA"],
    )
    return app, name, partitions


def make_app() -> faust.App:
    """The app."""
    app, name, partitions = plain_app()
    redis = Redis.from_url(os.environ["BENCH_REDIS"])
    reserve = redis.register_script(_RESERVE)
    orders = app.topic(os.environ["BENCH_TOPIC"], value_serializer="json", partitions=partitions)
    table = app.Table("orders", partitions=partitions)

    @app.agent(orders)  # type: ignore[untyped-decorator]
    async def reserve_each(stream: Any) -> None:
        async for order in stream:
            line = order["lines"][0]
            left = await reserve(keys=[f"{name}:sku:{line['sku']}", f"{name}:done"])
            table[order["order_id"]] = {"state": "reserved", "left": left}

    return app


if __name__ == "__main__":
    worker = faust.Worker(make_app(), loglevel="WARN")
    worker.execute_from_commandline()
