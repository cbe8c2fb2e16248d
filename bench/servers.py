"""The benchmark's servers and processes: one embedded Kafka, one embedded Valkey, and Stocktide's own processes.

Everything is started as a user has it (AOF everysec, the journal flushed by message) and stopped at the end.
"""

from __future__ import annotations

import asyncio
import os
import sys
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.orders import receipts, send_all
from stocktide.embedded import EmbeddedKafka, EmbeddedValkey
from stocktide.embedded.ports import pick_free_port
from stocktide.retry import poll_until
from stocktide.settings import Settings
from stocktide.streams.kafka.admin import ensure_topics

READY_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 15.0


@dataclass(frozen=True, slots=True)
class BenchServers:
    """Addresses of the servers, and the folder that everything lies in."""

    kafka: str
    redis: str
    folder: Path

    def settings(self, app_id: str, **more: object) -> Settings:
        """Settings of an installation of its own on these servers."""
        return Settings.from_environment(
            {}, app_id=app_id, kafka=self.kafka, redis=self.redis, data=self.folder / app_id, **more
        )


@asynccontextmanager
async def servers(folder: Path) -> AsyncIterator[BenchServers]:
    """Both servers, for the duration."""
    kafka = EmbeddedKafka(folder / "kafka", folder / "kafka.log")
    valkey = EmbeddedValkey(folder / "valkey", folder / "valkey.log")
    for part in ("kafka", "valkey"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    try:
        await asyncio.gather(kafka.start(), valkey.start())
        yield BenchServers(kafka.address, valkey.url, folder)
    finally:
        await asyncio.gather(kafka.stop(), valkey.stop())


@asynccontextmanager
async def process(*arguments: str, environ: Mapping[str, str], log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python process `-m …` for the duration, its output in `log`."""
    with log.open("ab") as output:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *arguments, env={**os.environ, **environ}, stdout=output, stderr=output
        )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
            try:
                await asyncio.wait_for(child.wait(), STOP_SECONDS_MAX)
            except TimeoutError:
                child.kill()
                await child.wait()


@asynccontextmanager
async def worker(stage: BenchServers, app_id: str, name: str = "worker") -> AsyncIterator[str]:
    """A worker, ready; its address."""
    settings = stage.settings(app_id, worker_port=pick_free_port(), worker_name=name)
    address = f"http://127.0.0.1:{settings.worker_port}"
    async with process(
        "stocktide", "worker", environ=settings.as_environment(), log=stage.folder / f"{app_id}.{name}.log"
    ) as child:
        await wait_ready(f"{address}/readyz", child)
        yield address


@asynccontextmanager
async def api(stage: BenchServers, app_id: str) -> AsyncIterator[int]:
    """An API process, ready; its port."""
    settings = stage.settings(app_id, port=pick_free_port())
    async with process(
        "stocktide", "api", environ=settings.as_environment(), log=stage.folder / f"{app_id}.api.log"
    ) as child:
        await wait_ready(f"http://127.0.0.1:{settings.port}/readyz", child)
        yield settings.port


async def wait_ready(url: str, child: asyncio.subprocess.Process) -> None:
    """Until `url` answers 200. Raises RuntimeError where the process ends, TimeoutError where it takes too long."""
    async with asyncio.timeout(READY_SECONDS_MAX):
        while True:
            if child.returncode is not None:
                raise RuntimeError(f"{url}: the process ended with status {child.returncode}; its log says why")
            try:
                await asyncio.to_thread(_get, url)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                return


async def count_settled_events(worker_address: str) -> int:
    """How many events the worker has had settled, of any outcome."""
    text = await asyncio.to_thread(_get, f"{worker_address}/metrics")
    return int(
        sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith("stocktide_outcomes_total{") and 'outcome="nothing_due"' not in line
        )
    )


async def receive_opening_stock(stage: BenchServers, app_id: str, skus: list[str], policies: bool = False) -> None:
    """Create the topics and receive stock of every SKU, until it is settled."""
    settings = stage.settings(app_id)
    await ensure_topics(stage.kafka, app_id, settings.partitions, settings.replication)
    async with worker(stage, app_id) as address:
        sent = await send_all(stage.kafka, f"{app_id}-movements", settings.partitions, receipts(skus))

        async def received() -> bool:
            return await count_settled_events(address) >= sent

        if not await poll_until(received, READY_SECONDS_MAX):
            raise TimeoutError(f"{app_id}: the receipts were not settled within {READY_SECONDS_MAX:.0f} s")


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())
