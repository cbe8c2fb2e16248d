"""Faults of the servers and clients: Redis dies, loses data, forks or refuses; Kafka dies, stops or refuses; clients
disconnect."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from redis.exceptions import RedisError

from stocktide.retry import poll_until
from stocktide.streams.topics import JOURNAL
from tests.faults.cluster import APP_ID
from tests.faults.fault import Fault, FaultContext, FaultNotInjected, make_fault
from tests.faults.servers import TAIL_SECONDS_MAX, CrashableRedis

SYNCED_SECONDS_MAX = 15.0
# Clients that disconnect at the same time.
DISCONNECTING_CLIENTS = 60
# Left free by the first allocation, then written page by page until the disk is full.
BALLAST_BYTES = 1024 * 1024


async def kill_redis(context: FaultContext) -> str:
    """SIGKILL of Redis, its file whole; it is started again."""
    await context.cluster.primary.crash()
    await context.pause(0, 1.5)
    await context.cluster.primary.start()
    return ""


async def lose_tail_of_redis(context: FaultContext) -> str:
    """SIGKILL of Redis, its append-only file cut back by up to two seconds of writes; it is started again."""
    lost = await context.cluster.primary.lose_tail(TAIL_SECONDS_MAX, context.rng)
    await context.cluster.primary.start()
    return f"{lost} bytes"


async def flush_redis(context: FaultContext) -> str:
    """`FLUSHALL`: Redis is empty, and its file with it."""
    await context.cluster.primary.command("FLUSHALL")
    return ""


async def stop_redis(context: FaultContext) -> str:
    """SIGSTOP of Redis for some seconds; SIGCONT."""
    primary = context.cluster.primary
    primary.send(signal.SIGSTOP)
    try:
        await context.pause(0.5, 6)
    finally:
        primary.send(signal.SIGCONT)
    return ""


async def slow_redis(context: FaultContext) -> str:
    """`CLIENT PAUSE`: Redis answers no client, or no writer, for up to three seconds."""
    ms = context.rng.randint(200, 3_000)
    await context.cluster.primary.command("CLIENT", "PAUSE", ms, context.rng.choice(("ALL", "WRITE")))
    await asyncio.sleep(ms / 1000)
    return f"{ms} ms"


async def fill_redis(context: FaultContext) -> str:
    """`maxmemory` is reached under `noeviction`: every write is refused; then there is room again."""
    primary = context.cluster.primary
    await primary.command("CONFIG", "SET", "maxmemory", "1mb")
    try:
        await context.pause(0.5, 4)
    finally:
        await primary.command("CONFIG", "SET", "maxmemory", "0")
    return ""


async def make_redis_readonly(context: FaultContext) -> str:
    """Redis becomes a replica of a missing server (READONLY), then a primary again with a new `replid`."""
    primary = context.cluster.primary
    await primary.command("REPLICAOF", "127.0.0.1", "1")
    try:
        await context.pause(0.3, 3)
    finally:
        await primary.command("REPLICAOF", "NO", "ONE")
    return ""


async def forget_scripts(context: FaultContext) -> str:
    """`SCRIPT FLUSH`, some times in a row: Redis says NOSCRIPT to what it knew."""
    for _ in range(5):
        await context.cluster.primary.command("SCRIPT", "FLUSH", "SYNC")
        await context.pause(0.05, 0.3)
    return ""


async def promote_lagging_replica(context: FaultContext) -> str:
    """A replica that lags is promoted, and all go to it but one API, which the old primary goes on serving for some
    seconds; then the old primary becomes a replica of the new one."""
    bytes_behind = await _promote(context)
    cluster = context.cluster
    await context.pause(1, 4)
    cluster.redirect_all(_require_replica(context).port)
    cluster.primary, cluster.replica = _require_replica(context), cluster.primary
    await cluster.start_replication()
    return f"{bytes_behind} bytes behind"


async def return_to_old_primary(context: FaultContext) -> str:
    """The same, but then all are pointed at the old primary again, which lacks what the other one decided meanwhile;
    that one becomes its replica again."""
    bytes_behind = await _promote(context)
    cluster = context.cluster
    await context.pause(1, 4)
    cluster.redirect_all(cluster.primary.port)
    await context.pause(0, 2)
    await cluster.start_replication()
    return f"{bytes_behind} bytes behind"


async def _promote(context: FaultContext) -> int:
    """Let the replica lag, promote it, and redirect the workers and all APIs but one to it. Returns the lag, bytes."""
    cluster, replica = context.cluster, _require_replica(context)
    await _wait_until_synced(replica)
    cluster.proxies.freeze("replica")
    try:
        await context.pause(0.2, 2)
        bytes_behind = await cluster.primary.replication_offset() - await replica.replication_offset()
        cluster.proxies.redirect(["replica"], None)
        await replica.command("REPLICAOF", "NO", "ONE")
    finally:
        cluster.proxies.freeze("replica", False)
    api_on_old_primary = context.rng.choice(cluster.apis).name
    cluster.proxies.redirect(
        [member.name for member in cluster.members if member.name != api_on_old_primary], replica.port
    )
    return bytes_behind


def _require_replica(context: FaultContext) -> CrashableRedis:
    replica = context.cluster.replica
    if replica is None:
        raise FaultNotInjected("there is no replica")
    return replica


async def _wait_until_synced(replica: CrashableRedis) -> None:
    async def is_synced() -> bool:
        with suppress(RedisError, OSError):
            return bool((await replica.replication()).get("master_link_status") == "up")
        return False

    if not await poll_until(is_synced, SYNCED_SECONDS_MAX):
        raise FaultNotInjected("the replica has no copy yet")


async def kill_kafka(context: FaultContext) -> str:
    """SIGKILL of the broker (of three: the one that leads the journal); it is started again with its data."""
    brokers = context.cluster.brokers
    index = await brokers.leader_of(JOURNAL.full_name(APP_ID))
    await brokers[index].crash()
    await context.pause(0, 3)
    await brokers[index].start()
    return f"broker {index + 1} of {len(brokers)}"


async def stop_kafka(context: FaultContext) -> str:
    """SIGSTOP of the broker that leads the journal, for some seconds; SIGCONT."""
    brokers = context.cluster.brokers
    index = await brokers.leader_of(JOURNAL.full_name(APP_ID))
    seconds = context.rng.uniform(0.5, 8)
    brokers[index].send(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        brokers[index].send(signal.SIGCONT)
    return f"{seconds:.1f} s"


async def refuse_produce(context: FaultContext) -> str:
    """The broker refuses whatever is produced to the journal (`max.message.bytes` of nothing); then it takes it."""
    await context.cluster.configure_journal(**{"max.message.bytes": "10"})
    try:
        await context.pause(0.5, 4)
    finally:
        await context.cluster.configure_journal()
    return ""


async def fill_disk_of_kafka(context: FaultContext) -> str:
    """The broker's disk is full; some seconds later there is room again, and the broker, if it died of it, is started
    again."""
    cluster = context.cluster
    if not cluster.shape.disk_mb:
        raise FaultNotInjected("the broker has no disk of its own")
    broker = cluster.brokers[0]
    ballast = broker.folder / "ballast"
    free = shutil.disk_usage(broker.folder).free
    await asyncio.to_thread(_fill, ballast)
    try:
        await context.pause(2, 6)
    finally:
        await asyncio.to_thread(ballast.unlink)
    died = not broker.running
    if died:
        await broker.start()
    return f"{free / 2**20:.0f} MB filled, the broker {'died' if died else 'lived'}"


def _fill(ballast: Path) -> None:
    free = shutil.disk_usage(ballast.parent).free
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free - BALLAST_BYTES))
        file.seek(0, os.SEEK_END)
        while file.write(bytes(4096)):  # until the disk is full
            pass


async def hang_up(context: FaultContext) -> str:
    """Many clients connect, send half a request, and are gone. (Those that hang up on a whole one are in the load.)"""
    port = context.api().port
    rng = context.rng

    async def one(number: int) -> None:
        order = b'{"order_id":"hung-%d-%d","channel":"jd","lines":[{"sku":"S000","quantity":1}]}'
        body = order % (rng.randrange(10**9), number)
        head = b"POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        request = head % len(body) + body
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request[: rng.choice((len(request) // 2, len(request) - 1))])
            await asyncio.sleep(rng.uniform(0, 0.2))
            writer.transport.abort()

    await asyncio.gather(*(one(number) for number in range(DISCONNECTING_CLIENTS)))
    return f"{DISCONNECTING_CLIENTS} clients"


SERVER_FAULTS: tuple[Fault, ...] = (
    make_fault("kill_redis", kill_redis, "redis", 1, 2, 3, 4),
    make_fault("lose_tail_of_redis", lose_tail_of_redis, "redis", 1, 2, 3, 4, 7),
    make_fault("flush_redis", flush_redis, "redis", 1, 2, 3, 4, 7),
    make_fault("stop_redis", stop_redis, "redis", 2, 3),
    make_fault("slow_redis", slow_redis, "redis", 2, 3),
    make_fault("fill_redis", fill_redis, "redis", 1, 2, 3),
    make_fault("make_redis_readonly", make_redis_readonly, "redis", 1, 2, 3),
    make_fault("forget_scripts", forget_scripts, "redis", 2),
    make_fault("promote_lagging_replica", promote_lagging_replica, "redis", 1, 2, 3, 4, 7),
    make_fault("return_to_old_primary", return_to_old_primary, "redis", 1, 2, 3, 4, 7),
    make_fault("kill_kafka", kill_kafka, "kafka", 1, 2, 3, 5, 6),
    make_fault("stop_kafka", stop_kafka, "kafka", 2, 3, 5),
    make_fault("refuse_produce", refuse_produce, "kafka", 2, 3),
    make_fault("fill_disk_of_kafka", fill_disk_of_kafka, "kafka", 2, 3, 5, needs="disk"),
    make_fault("hang_up", hang_up, "client", 2, 3),
)
