"""The servers and processes of a benchmark: an embedded Kafka and Valkey, and processes `python -m …`.

In: a folder. Out: servers and processes with the settings of a user (AOF everysec, the journal flushed by message);
each process can be stopped, killed and started again.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

from bench.orders import receipts, send_all
from bench.valkey import BenchValkey
from stocktide.api.access.caller import OPERATOR
from stocktide.client.http import KEY_VARIABLE
from stocktide.embedded import EmbeddedKafka
from stocktide.embedded.ports import pick_free_port
from stocktide.embedded.process import ChildProcess
from stocktide.retry import poll_until
from stocktide.settings import Settings
from stocktide.streams.kafka.admin import ensure_topics
from stocktide.up.first_keys import make_first_keys

# Ten times the goal for a million SKUs: a slower start is a failure, not a measurement.
READY_SECONDS_MAX = 600.0
STOP_SECONDS_MAX = 30.0
LOG_POLL_SECONDS = 0.5
RESPONSE_SECONDS_MAX = 5.0


@dataclass(frozen=True, slots=True)
class BenchServers:
    """The servers, and the folder of all data and logs."""

    kafka: EmbeddedKafka
    valkey: BenchValkey
    folder: Path

    def settings(self, app_id: str, **more: object) -> Settings:
        """Settings of one installation on these servers."""
        return Settings.from_environment(
            {},
            app_id=app_id,
            kafka=self.kafka.address,
            redis=self.valkey.url,
            data=self.folder / app_id,
            keys_file=str(_keys_file(self.folder)),
            # The limit of one key is not what is measured.
            requests_per_second=0,
            **more,
        )

    @property
    def pids(self) -> dict[str, int | None]:
        """The process ids, by the names in the report."""
        return {"Kafka": self.kafka.pid, "Valkey": self.valkey.pid}

    async def create_topics(self, app_id: str) -> Settings:
        """Create the topics of an installation; its settings."""
        settings = self.settings(app_id)
        await ensure_topics(settings.kafka, app_id, settings.partitions, settings.replication)
        return settings


@asynccontextmanager
async def run_servers(folder: Path) -> AsyncIterator[BenchServers]:
    """Both servers, for the duration."""
    kafka = EmbeddedKafka(folder / "kafka", folder / "kafka.log")
    valkey = BenchValkey(folder / "valkey", folder / "valkey.log")
    try:
        # Requests are measured as users send them, with a key: every client of this process and of its children has it.
        os.environ[KEY_VARIABLE] = make_first_keys(folder, _keys_file(folder))[OPERATOR]
        await asyncio.gather(kafka.start(), valkey.start())
        yield BenchServers(kafka, valkey, folder)
    finally:
        await asyncio.gather(kafka.stop(), valkey.stop())


def _keys_file(folder: Path) -> Path:
    return folder / "keys.json"


class ModuleProcess(ChildProcess):
    """A process `python -m …`; a restart runs the same command. `ready`: whether it can be used."""

    def __init__(
        self,
        *arguments: str,
        log: Path,
        environ: Mapping[str, str] | None = None,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__(" ".join(arguments[:2]), log, STOP_SECONDS_MAX)
        self._command = [sys.executable, "-m", *arguments]
        self._environ = {**os.environ, **(environ or {})}
        self._ready = ready
        self._log_offset = 0

    async def is_ready(self) -> bool:
        """Whether it can be used."""
        return self._ready()

    async def start(self) -> float:
        """Start it, and wait until it is ready: seconds. Raises RuntimeError."""
        began = time.monotonic()
        self._log_offset = self.log.stat().st_size if self.log.exists() else 0
        await self.spawn(self._command, self._environ)

        async def is_ready_or_ended() -> bool:
            return not self.running or await self.is_ready()

        if not await poll_until(is_ready_or_ended, READY_SECONDS_MAX) or not self.running:
            raise RuntimeError(f"{self.title} ended or is not ready; its log says why:\n{self.last_log_lines()}")
        return time.monotonic() - began

    async def end_by_kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self.kill()
        await self.wait()

    async def wait_for_log(self, pattern: re.Pattern[str], seconds_max: float) -> re.Match[str]:
        """Wait until its log since the last start matches. Raises TimeoutError."""
        deadline = time.monotonic() + seconds_max
        while time.monotonic() < deadline:
            if (found := pattern.search(self.log_since(self._log_offset))) is not None:
                return found
            await asyncio.sleep(LOG_POLL_SECONDS)
        raise TimeoutError(f"{self.title} did not log {pattern.pattern!r} within {seconds_max:.0f} s")

    def log_since(self, offset: int) -> str:
        """Its log from `offset` bytes on."""
        with self.log.open("rb") as file:
            file.seek(offset)
            return file.read().decode(errors="replace")

    def memory(self) -> tuple[int, int]:
        """Resident bytes now, and their peak since the start (0 if the system does not report it)."""
        assert self.pid is not None
        return psutil.Process(self.pid).memory_info().rss, _peak(self.pid)

    def cpu_seconds(self) -> float:
        """CPU time since the start."""
        assert self.pid is not None
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)


class BenchedProcess(ModuleProcess):
    """A process of Stocktide, `worker` or `api`; a restart keeps its port."""

    def __init__(self, servers: BenchServers, app_id: str, kind: str, worker_name: str = "worker") -> None:
        self.port = pick_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        port = {"worker": "worker_port", "api": "port"}[kind]
        settings = servers.settings(app_id, worker_name=worker_name, **{port: self.port})
        log = servers.folder / f"{app_id}.{kind}.{self.port}.log"
        super().__init__("stocktide", kind, log=log, environ=settings.as_environment())

    async def is_ready(self) -> bool:
        """By `/readyz`."""
        return await self.get("/readyz") is not None

    async def get(self, path: str) -> str | None:
        """The body of a 200 response; None for any other status, and if nothing answers."""
        try:
            return await asyncio.to_thread(_get, self.url + path)
        except OSError:
            return None

    async def count_settled_events(self) -> int:
        """The events that this worker has settled since its start, of any outcome."""
        lines = (await self.metrics()).splitlines()
        return int(sum_metric("stocktide_outcomes_total", (line for line in lines if "nothing_due" not in line)))

    async def metrics(self) -> str:
        """Its metrics as text."""
        return await self.get("/metrics") or ""

    async def wait_until_settled(self, events: int) -> None:
        """Wait until it has settled so many events. Raises TimeoutError."""

        async def are_settled() -> bool:
            return await self.count_settled_events() >= events

        if not await poll_until(are_settled, READY_SECONDS_MAX):
            raise TimeoutError(f"{events} events were not settled within {READY_SECONDS_MAX:.0f} s")


_Process = TypeVar("_Process", bound=ModuleProcess)


@asynccontextmanager
async def running(process: _Process) -> AsyncIterator[_Process]:
    """A process, ready, for the duration."""
    try:
        await process.start()
        yield process
    finally:
        await process.stop()


async def receive_opening_stock(servers: BenchServers, app_id: str, skus: list[str]) -> None:
    """Create the topics and receive stock of every SKU, until it is settled."""
    settings = await servers.create_topics(app_id)
    async with running(BenchedProcess(servers, app_id, "worker")) as worker:
        await worker.wait_until_settled(
            await send_all(settings.kafka, f"{app_id}-movements", settings.partitions, receipts(skus))
        )


def sum_metric(name: str, lines: Iterable[str]) -> float:
    """The sum of a metric over its labels. Lines are scanned, not parsed: a rate is measured with 50 requests a second
    on the cores of the worker."""
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return 0
    line = next((line for line in status.read_text().splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(line.split()[1]) * 1024


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=RESPONSE_SECONDS_MAX) as response:
        return str(response.read().decode())
