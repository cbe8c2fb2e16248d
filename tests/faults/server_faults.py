"""Faults of the servers: Redis that dies, forgets, forks or refuses; Kafka that dies, halts or refuses; clients that
hang up."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from redis.exceptions import RedisError

from stocktide.streams.kafka.admin import topic_settings
from stocktide.streams.topics import JOURNAL
from tests.faults.fault import Fault, FaultContext, FaultNotInjected
from tests.faults.redis_server import TAIL_SECONDS_MAX, RedisServer

# A replica has its first copy within this.
SYNCED_SECONDS_MAX = 15.0
# Requests of clients that hang up together.
HANG_UPS = 60
# Left by the first stroke, and then written page by page until the disk is full.
BALLAST_BYTES = 1024 * 1024


async def kill_redis(scene: FaultContext) -> str:
    """SIGKILL of Redis, its file whole; it is started again."""
    await scene.cluster.primary.kill()
    await scene.pause(0, 1.5)
    await scene.cluster.primary.start()
    return ""


async def lose_tail_of_redis(scene: FaultContext) -> str:
    """SIGKILL of Redis, its append-only file cut back by up to two seconds of writes; it is started again."""
    lost = await scene.cluster.primary.lose_tail(TAIL_SECONDS_MAX, scene.rng)
    await scene.cluster.primary.start()
    return f"{lost} bytes"


async def flush_redis(scene: FaultContext) -> str:
    """`FLUSHALL`: Redis is empty, and its file with it."""
    await scene.cluster.primary.command("FLUSHALL")
    return ""


async def stop_redis(scene: FaultContext) -> str:
    """SIGSTOP of Redis for some seconds; SIGCONT."""
    primary = scene.cluster.primary
    primary.send(signal.SIGSTOP)
    try:
        await scene.pause(0.5, 6)
    finally:
        primary.send(signal.SIGCONT)
    return ""


async def slow_redis(scene: FaultContext) -> str:
    """`CLIENT PAUSE`: Redis answers nobody, or no writer, for up to three seconds."""
    ms = scene.rng.randint(200, 3_000)
    await scene.cluster.primary.command("CLIENT", "PAUSE", ms, scene.rng.choice(("ALL", "WRITE")))
    await asyncio.sleep(ms / 1000)
    return f"{ms} ms"


async def fill_redis(scene: FaultContext) -> str:
    """`maxmemory` is reached under `noeviction`: every write is refused; then there is room again."""
    primary = scene.cluster.primary
    await primary.command("CONFIG", "SET", "maxmemory", "1mb")
    try:
        await scene.pause(0.5, 4)
    finally:
        await primary.command("CONFIG", "SET", "maxmemory", "0")
    return ""


async def make_redis_readonly(scene: FaultContext) -> str:
    """Redis is told to follow a server that is not there (READONLY), then to lead again: its `replid` is another."""
    primary = scene.cluster.primary
    await primary.command("REPLICAOF", "127.0.0.1", "1")
    try:
        await scene.pause(0.3, 3)
    finally:
        await primary.command("REPLICAOF", "NO", "ONE")
    return ""


async def forget_scripts(scene: FaultContext) -> str:
    """`SCRIPT FLUSH`, some times in a row: Redis says NOSCRIPT to what it knew."""
    for _ in range(5):
        await scene.cluster.primary.command("SCRIPT", "FLUSH", "SYNC")
        await scene.pause(0.05, 0.3)
    return ""


async def promote_lagging_replica(scene: FaultContext) -> str:
    """A replica that lags is promoted, and all go to it but one API, which the old primary goes on serving for some
    seconds; then the old primary becomes a replica of the new one."""
    behind = await _promote(scene)
    cluster = scene.cluster
    await scene.pause(1, 4)
    cluster.point_all(_other(scene).port)
    cluster.primary, cluster.replica = _other(scene), cluster.primary
    await cluster.follow()
    return f"{behind} bytes behind"


async def return_to_old_primary(scene: FaultContext) -> str:
    """The same, but the operators go back: all are pointed at the old primary again, which knows nothing of what the
    other one decided meanwhile; that one becomes its replica again."""
    behind = await _promote(scene)
    cluster = scene.cluster
    await scene.pause(1, 4)
    cluster.point_all(cluster.primary.port)
    await scene.pause(0, 2)
    await cluster.follow()
    return f"{behind} bytes behind"


async def _promote(scene: FaultContext) -> int:
    """Let the replica lag, promote it, and point the workers and all APIs but one at it; how far it lagged."""
    cluster, replica = scene.cluster, _other(scene)
    await _synced(replica)
    cluster.links.hold("replica")
    try:
        await scene.pause(0.2, 2)
        behind = await cluster.primary.offset() - await replica.offset()
        cluster.links.point(["replica"], None)
        await replica.command("REPLICAOF", "NO", "ONE")
    finally:
        cluster.links.hold("replica", False)
    stays = scene.rng.choice(cluster.apis).name
    cluster.links.point([member.name for member in cluster.members if member.name != stays], replica.port)
    return behind


def _other(scene: FaultContext) -> RedisServer:
    replica = scene.cluster.replica
    if replica is None:
        raise FaultNotInjected("there is no replica")
    return replica


async def _synced(replica: RedisServer) -> None:
    deadline = asyncio.get_running_loop().time() + SYNCED_SECONDS_MAX
    while asyncio.get_running_loop().time() < deadline:
        with suppress(RedisError, OSError):
            async with replica.client() as client:
                if (await client.info("replication")).get("master_link_status") == "up":
                    return
        await asyncio.sleep(0.1)
    raise FaultNotInjected("the replica has no copy yet")


async def kill_kafka(scene: FaultContext) -> str:
    """SIGKILL of the broker (of three: the one that leads the journal); it is started again with its data."""
    brokers = scene.cluster.brokers
    index = await brokers.leader(scene.cluster.topic(JOURNAL.name))
    await brokers.kill(index)
    await scene.pause(0, 3)
    await brokers.start_one(index)
    return f"broker {index + 1} of {len(brokers)}"


async def stop_kafka(scene: FaultContext) -> str:
    """SIGSTOP of the broker that leads the journal, for some seconds; SIGCONT."""
    brokers = scene.cluster.brokers
    index = await brokers.leader(scene.cluster.topic(JOURNAL.name))
    seconds = scene.rng.uniform(0.5, 8)
    brokers.send(index, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        brokers.send(index, signal.SIGCONT)
    return f"{seconds:.1f} s"


async def refuse_produce(scene: FaultContext) -> str:
    """The broker refuses whatever is produced to the journal (`max.message.bytes` of nothing); then it takes it."""
    brokers, topic = scene.cluster.brokers, scene.cluster.topic(JOURNAL.name)
    settings = topic_settings(JOURNAL, len(brokers))
    await brokers.configure(topic, {**settings, "max.message.bytes": "10"})
    try:
        await scene.pause(0.5, 4)
    finally:
        await brokers.configure(topic, settings)
    return ""


async def fill_disk_of_kafka(scene: FaultContext) -> str:
    """The broker's disk is full; some seconds later there is room again, and the broker, if it died of it, is started
    again."""
    cluster = scene.cluster
    if not cluster.shape.disk_mb:
        raise FaultNotInjected("the broker has no disk of its own")
    folder = cluster.brokers.folder(0)
    ballast = folder / "ballast"
    free = shutil.disk_usage(folder).free
    await asyncio.to_thread(_fill, ballast)
    try:
        await scene.pause(2, 6)
    finally:
        await asyncio.to_thread(ballast.unlink)
    died = not cluster.brokers.running(0)
    if died:
        await cluster.brokers.start_one(0)
    return f"{free / 2**20:.0f} MB filled, the broker {'died' if died else 'lived'}"


def _fill(ballast: Path) -> None:
    free = shutil.disk_usage(ballast.parent).free
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free - BALLAST_BYTES))
        file.seek(0, os.SEEK_END)
        while file.write(bytes(4096)):  # what is left, and what is given back meanwhile
            pass


async def hang_up(scene: FaultContext) -> str:
    """Many clients connect, send half a request, and are gone. (Those that hang up on a whole one are in the load.)"""
    port = scene.api().port
    rng = scene.rng

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

    await asyncio.gather(*(one(number) for number in range(HANG_UPS)))
    return f"{HANG_UPS} clients"


def _fault(name: str, inject: object, part: str, *promises: int, needs: str = "") -> Fault:
    return Fault(name, inject, frozenset({part}), promises, needs)  # type: ignore[arg-type]


SERVER_FAULTS: tuple[Fault, ...] = (
    _fault("kill_redis", kill_redis, "redis", 1, 2, 3, 4),
    _fault("lose_tail_of_redis", lose_tail_of_redis, "redis", 1, 2, 3, 4, 7, needs="redo"),
    _fault("flush_redis", flush_redis, "redis", 1, 2, 3, 4, 7, needs="redo"),
    _fault("stop_redis", stop_redis, "redis", 2, 3),
    _fault("slow_redis", slow_redis, "redis", 2, 3),
    _fault("fill_redis", fill_redis, "redis", 1, 2, 3),
    _fault("make_redis_readonly", make_redis_readonly, "redis", 1, 2, 3),
    _fault("forget_scripts", forget_scripts, "redis", 2),
    _fault("promote_lagging_replica", promote_lagging_replica, "redis", 1, 2, 3, 4, 7, needs="redo"),
    _fault("return_to_old_primary", return_to_old_primary, "redis", 1, 2, 3, 4, 7, needs="redo"),
    _fault("kill_kafka", kill_kafka, "kafka", 1, 2, 3, 5, 6),
    _fault("stop_kafka", stop_kafka, "kafka", 2, 3, 5),
    _fault("refuse_produce", refuse_produce, "kafka", 2, 3),
    _fault("fill_disk_of_kafka", fill_disk_of_kafka, "kafka", 2, 3, 5, needs="disk"),
    _fault("hang_up", hang_up, "client", 2, 3),
)
