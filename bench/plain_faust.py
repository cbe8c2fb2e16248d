"""A plain Faust agent with one Lua call in Redis and one table write per order: the yardstick of the worker, and a
contender that also responds.

`python -m bench.plain_faust worker --without-web` with the variables of `plain_faust`. Progress is the Redis counter
`{BENCH_APP}:done`, incremented by the Lua call. Repeated orders are answered from its table; with BENCH_RESPONDS=1 it
answers every order on the topic `{BENCH_APP}-answers`. It waits for Redis during an outage: Faust acks an order even
after an exception.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faust
from redis.asyncio import Redis
from redis.exceptions import RedisError

from bench.servers import BenchServers, ModuleProcess
from bench.strategies import HELD, REFUSED, SOCKET_SECONDS_MAX

PARTITIONS = 4
RETRY_SECONDS = 0.1

_TAKE = """
redis.call('INCR', KEYS[2])
if tonumber(redis.call('GET', KEYS[1])) < tonumber(ARGV[1]) then return 0 end
redis.call('DECRBY', KEYS[1], ARGV[1])
return 1
"""


def plain_faust(servers: BenchServers, app_id: str, log: Path, responds: bool = False) -> ModuleProcess:
    """The agent's process; it reads the topic `{app_id}-orders`."""
    environ = {
        "BENCH_KAFKA": servers.kafka.address,
        "BENCH_REDIS": servers.valkey.url,
        "BENCH_APP": app_id,
        "BENCH_PARTITIONS": str(PARTITIONS),
        "BENCH_DATA": str(servers.folder / app_id),
        "BENCH_RESPONDS": str(int(responds)),
    }
    return ModuleProcess("bench.plain_faust", "worker", "--without-web", log=log, environ=environ)


def make_app(environ: Mapping[str, str]) -> faust.App:
    """An app as in Faust's documentation."""
    name, partitions = environ["BENCH_APP"], int(environ["BENCH_PARTITIONS"])
    app = faust.App(
        name,
        broker=f"kafka://{environ['BENCH_KAFKA']}",
        store="memory://",
        topic_partitions=partitions,
        web_enabled=False,
        datadir=environ["BENCH_DATA"],
    )
    script = Redis.from_url(environ["BENCH_REDIS"], socket_timeout=SOCKET_SECONDS_MAX).register_script(_TAKE)
    orders = app.topic(f"{name}-orders", key_type=str, value_serializer="json", partitions=partitions)
    answers = app.topic(f"{name}-answers", value_serializer="json", partitions=1)
    table = app.Table("states", partitions=partitions)
    responds = environ["BENCH_RESPONDS"] == "1"

    async def take(sku: str, units: int) -> str:
        while True:
            try:
                return HELD if await script(keys=[f"stock:{sku}", f"{name}:done"], args=[units]) else REFUSED
            except (RedisError, OSError):
                await asyncio.sleep(RETRY_SECONDS)

    @app.agent(orders)  # type: ignore[untyped-decorator]
    async def reserve_each(stream: Any) -> None:
        async for order in stream:
            order_id, line = order["order_id"], order["lines"][0]
            if (state := table.get(order_id)) is None:
                state = await take(line["sku"], line["quantity"])
                table[order_id] = state
            if responds:
                await answers.send(key=order_id, value={"order_id": order_id, "state": state})

    return app


if __name__ == "__main__":
    worker = faust.Worker(make_app(os.environ), loglevel="WARN")
    worker.execute_from_commandline()
