"""The servers and processes of a large shop: an embedded Kafka and Valkey, and Stocktide's own processes.

All are started as a user has them (AOF everysec), and each may be stopped, killed and started again.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from stocktide.embedded import EmbeddedKafka, EmbeddedValkey
from stocktide.embedded.ports import pick_free_port
from stocktide.embedded.process import ChildProcess
from stocktide.settings import Settings
from stocktide.streams.kafka.admin import ensure_topics
from stocktide.tables.ledger.scripts import key_prefix

APP_ID = "size"
PREFIX = key_prefix(APP_ID)
# Ten times the goal: one that takes longer is not measured but broken.
READY_SECONDS_MAX = 600.0
STOP_SECONDS_MAX = 30.0
POLL_SECONDS = 0.02
LOG_SECONDS = 0.5
ANSWER_SECONDS_MAX = 5.0


@dataclass(frozen=True, slots=True)
class SizeServers:
    """The servers, and the folder that everything lies in."""

    kafka: EmbeddedKafka
    valkey: EmbeddedValkey
    folder: Path

    def settings(self, **more: object) -> Settings:
        """Settings of the one installation on these servers."""
        return Settings.from_environment(
            {}, app_id=APP_ID, kafka=self.kafka.address, redis=self.valkey.url, data=self.folder / "data", **more
        )

    def environ(self, **more: object) -> dict[str, str]:
        """The environment of a process of the installation."""
        return {**os.environ, **self.settings(**more).as_environment()}


@asynccontextmanager
async def servers(folder: Path) -> AsyncIterator[SizeServers]:
    """Both servers, with the topics made, for the duration."""
    kafka = EmbeddedKafka(folder / "kafka", folder / "kafka.log")
    valkey = EmbeddedValkey(folder / "valkey", folder / "valkey.log")
    for part in ("kafka", "valkey"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    try:
        await asyncio.gather(kafka.start(), valkey.start())
        stage = SizeServers(kafka, valkey, folder)
        settings = stage.settings()
        await ensure_topics(settings.kafka, APP_ID, settings.partitions, settings.replication)
        yield stage
    finally:
        await asyncio.gather(kafka.stop(), valkey.stop())


class StocktideProcess:
    """One process of Stocktide, `worker` or `api`; it may be ended and started again, on the same port."""

    def __init__(self, stage: SizeServers, kind: str) -> None:
        self._stage = stage
        self._kind = kind
        self._port = pick_free_port()
        self._child = ChildProcess(kind, stage.folder / f"{kind}.log")
        self._log_offset = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def log(self) -> Path:
        """Its log, of all of its lives."""
        return self._child.log

    async def start(self) -> float:
        """Start it, and wait until it is ready: seconds. Raises RuntimeError, TimeoutError."""
        began = time.monotonic()
        port = {"worker": "worker_port", "api": "port"}[self._kind]
        environ = self._stage.environ(**{port: self._port})
        self._log_offset = self.log.stat().st_size if self.log.exists() else 0
        await self._child.spawn([sys.executable, "-m", "stocktide", self._kind], environ)
        async with asyncio.timeout(READY_SECONDS_MAX):
            while await self.ask("/readyz") is None:
                if not self._child.running:
                    raise RuntimeError(f"the {self._kind} ended; its log says why:\n{self._child.last_log_lines()}")
                await asyncio.sleep(POLL_SECONDS)
        return time.monotonic() - began

    async def stop(self) -> float:
        """SIGTERM, and wait for its end: seconds."""
        began = time.monotonic()
        await self._child.stop(STOP_SECONDS_MAX)
        return time.monotonic() - began

    async def kill(self) -> float:
        """SIGKILL, and wait for its end: seconds."""
        began = time.monotonic()
        self._child.kill()
        await self._child.wait()
        return time.monotonic() - began

    async def ask(self, path: str) -> str | None:
        """The body of an answer 200 of its endpoint; None for any other, or none."""
        try:
            return await asyncio.to_thread(_get, self.url + path)
        except OSError:
            return None

    async def logged(self, pattern: re.Pattern[str], seconds_max: float) -> re.Match[str]:
        """Wait until its log of this life matches. Raises TimeoutError."""
        deadline = time.monotonic() + seconds_max
        while time.monotonic() < deadline:
            if (found := pattern.search(self.log_since(self._log_offset))) is not None:
                return found
            await asyncio.sleep(LOG_SECONDS)
        raise TimeoutError(f"the {self._kind} did not log {pattern.pattern!r} within {seconds_max:.0f} s")

    def log_since(self, offset: int) -> str:
        """Its log from `offset` bytes on."""
        with self.log.open("rb") as file:
            file.seek(offset)
            return file.read().decode(errors="replace")

    async def metrics(self) -> dict[str, float]:
        """Its metrics, the sum of each over its labels but the topic: `name`, or `name topic`."""
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(await self.ask("/metrics") or ""):
            for sample in family.samples:
                if sample.labels.get("outcome") == "nothing_due":
                    continue
                name = f"{sample.name} {sample.labels['topic']}" if "topic" in sample.labels else sample.name
                found[name] = found.get(name, 0.0) + sample.value
        return found

    def memory(self) -> tuple[int, int]:
        """Bytes resident now, and the most there were in this life (0 where the system does not tell)."""
        assert self._child.pid is not None
        return psutil.Process(self._child.pid).memory_info().rss, _peak(self._child.pid)


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return 0
    line = next((line for line in status.read_text().splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(line.split()[1]) * 1024


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=ANSWER_SECONDS_MAX) as answer:
        return str(answer.read().decode())
