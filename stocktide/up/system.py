"""The servers, the worker and the API of one `stocktide up`, from start to stop.

Order up: Valkey and Kafka, topics, worker and API. Order down: API, worker, Kafka, Valkey, so that nobody loses
what it still talks to. Out: a `ReadyFile` for whoever wants to reach it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError

from stocktide.cli_options import own_server_hint
from stocktide.embedded import EmbeddedKafka, EmbeddedValkey
from stocktide.embedded.ports import is_port_free, pick_free_port
from stocktide.embedded.process import rotate_log
from stocktide.errors import CommandError, PortTaken
from stocktide.progress import Echo, announce_if_slow
from stocktide.settings import Settings
from stocktide.streams.kafka.admin import TopicsError
from stocktide.streams.topics import TOPICS
from stocktide.up.preflight import check_servers
from stocktide.up.program import stocktide_program
from stocktide.up.ready_file import ReadyFile, prepare_ready_file, write_ready_file
from stocktide.up.run_file import RunFile
from stocktide.up.supervisor import SupervisedProcess, Supervisor
from stocktide.wait_for_servers import wait_for_topics

# How often the logs are looked at for their size.
LOG_CHECK_SECONDS = 60.0

WhenReady = Callable[[ReadyFile], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """`settings.kafka` and `settings.redis` count only where `own_kafka` and `own_redis` are False."""

    settings: Settings
    own_kafka: bool = True
    own_redis: bool = True
    ready_file: Path | None = None

    def check(self) -> None:
        """The embedded servers are open, on loopback: refuse settings that want in elsewhere. Raises CommandError."""
        if self.own_kafka and self.settings.kafka_access():
            raise CommandError(
                f"STOCKTIDE_KAFKA_SECURITY is {self.settings.kafka_security}, but the embedded Kafka has no locks: "
                "leave the variable out"
                + own_server_hint("--kafka", "give the address of your own Kafka (--kafka or STOCKTIDE_KAFKA)")
            )
        if self.own_redis and self.settings.redis_access():
            raise CommandError(
                "STOCKTIDE_REDIS_USER or STOCKTIDE_REDIS_PASSWORD is set, but the embedded Valkey has no locks: leave "
                "the variables out"
                + own_server_hint("--redis", "give the URL of your own Redis (--redis or STOCKTIDE_REDIS)")
            )


class System:
    """The servers, the worker and the API of one `up`. Start once, supervise, stop."""

    def __init__(self, options: UpOptions, say: Echo) -> None:
        self._options = options
        self._settings = options.settings
        self._say = say
        self._logs = options.settings.data / "logs"
        self._run_file: RunFile | None = None
        # Whether the ready file is ours to take away.
        self._told = False
        # In the order in which to stop them.
        self._programs: list[SupervisedProcess] = []
        self._servers: list[SupervisedProcess] = []

    async def start(self) -> None:
        """Start everything and wait until it serves. Raises CommandError."""
        self._options.check()
        self._settle_ports()
        if self._options.ready_file is not None:
            prepare_ready_file(self._options.ready_file)
        try:
            await self._start_servers()
            async with announce_if_slow(self._say, "waiting for Kafka to make the topics"):
                await wait_for_topics(self._settings)
        except (TopicsError, KafkaError) as error:
            raise CommandError(str(error)) from error
        settings = self._settings
        self._programs = [
            stocktide_program("api", settings, self.api, self._logs / "api.log", self._say),
            stocktide_program("worker", settings, self.worker, self._logs / "worker.log", self._say),
        ]
        # A worker that waits for its operator never becomes ready by itself: commands have to find the system before.
        self._note_running()
        async with announce_if_slow(self._say, "starting the worker and the API"):
            await _together(*(program.start() for program in self._programs))
        self._tell()

    async def supervise(self, when_ready: WhenReady | None) -> None:
        """Keep everything running until cancelled."""
        supervisor = Supervisor([*self._programs, *self._servers], self._say, self._tell)
        steps = [supervisor.watch(), self._bound_logs()]
        if when_ready is not None:
            steps.append(_ended_by(when_ready, self.ready))
        await _together(*steps)

    async def stop(self) -> None:
        """Stop everything in order; nothing is left running."""
        if self._told and self._options.ready_file is not None:
            with contextlib.suppress(OSError):  # what follows matters more
                self._options.ready_file.unlink(missing_ok=True)
        if self._run_file is not None:
            self._run_file.remove()
        for service in (*self._programs, *self._servers):
            async with announce_if_slow(self._say, f"waiting for {service.name} to stop"):
                await service.stop()

    @property
    def has_children(self) -> bool:
        """Whether a child was ever started."""
        return any(service.pid for service in (*self._programs, *self._servers))

    def kill(self) -> None:
        """End everything at once."""
        for service in (*self._programs, *self._servers):
            service.kill()

    @property
    def api(self) -> str:
        """The API's address as we reach it."""
        host = self._settings.host
        return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::', '') else host}:{self._settings.port}"

    @property
    def worker(self) -> str:
        """The address of the worker's `/readyz` and `/metrics`."""
        return f"http://127.0.0.1:{self._settings.worker_port}"

    @property
    def ready(self) -> ReadyFile:
        """What the ready file says."""
        settings = self._settings
        return ReadyFile(
            api=self.api,
            worker=self.worker,
            kafka=settings.kafka,
            redis=settings.redis,
            app_id=settings.app_id,
            topics={topic.name: topic.full_name(settings.app_id) for topic in TOPICS},
            pids={service.name: service.pid or 0 for service in (*self._programs, *self._servers)},
        )

    def greeting(self) -> str:
        """The addresses, for whoever started it."""
        ready = self.ready
        open_to = "this machine" if self._settings.host == "127.0.0.1" else "whoever reaches that address"
        return (
            f"Stocktide serves:\n"
            f"  API and board  {ready.api}/\n"
            f"  Kafka          {ready.kafka}  (topics {ready.topics['orders']}, {ready.topics['movements']})\n"
            f"  worker         {ready.worker}/metrics\n"
            f"  logs           {self._logs}\n"
            f"There are no keys yet: it is open to {open_to}. Ctrl-C stops everything, the data stay."
        )

    def _settle_ports(self) -> None:
        """Pick the free ports once, so that a child that is started again keeps its own. Raises PortTaken."""
        settings = self._settings
        port = settings.port or pick_free_port(settings.host)
        if settings.port and not is_port_free(port, settings.host):
            raise PortTaken("the API", settings.host, port, "choose another with --port, or 0 for a free one")
        worker_port = settings.worker_port or pick_free_port(avoid=[port])
        if settings.worker_port and not is_port_free(worker_port):
            raise PortTaken("the worker", "127.0.0.1", worker_port, "set STOCKTIDE_WORKER_PORT to another")
        self._settings = replace(settings, port=port, worker_port=worker_port)

    async def _start_servers(self) -> None:
        data, options = self._settings.data, self._options
        kafka = EmbeddedKafka(data / "kafka", self._logs / "kafka.log", self._say)
        valkey = EmbeddedValkey(data / "valkey", self._logs / "valkey.log", self._say)
        self._servers = [
            *([kafka] if options.own_kafka else []),
            *([valkey] if options.own_redis else []),
        ]
        # Those that are not ours first: where one cannot be used, nothing was started.
        await check_servers(self._settings, self._say, kafka=not options.own_kafka, redis=not options.own_redis)
        await _together(*(service.start() for service in self._servers))
        self._settings = replace(
            self._settings,
            kafka=kafka.address if options.own_kafka else self._settings.kafka,
            redis=valkey.url if options.own_redis else self._settings.redis,
        )

    def _tell(self) -> None:
        """Tell that it serves, and with which processes."""
        ready = self.ready
        self._note_running()
        # Last: whoever waits for it finds the rest.
        if self._options.ready_file is not None:
            write_ready_file(self._options.ready_file, ready)
            self._told = True

    def _note_running(self) -> None:
        self._run_file = self._run_file or RunFile(self._settings.data, self._settings.partitions)
        self._run_file.write(self.ready)

    async def _bound_logs(self) -> None:
        while True:
            await asyncio.sleep(LOG_CHECK_SECONDS)
            for log in self._logs.glob("*.log"):
                rotate_log(log)


async def _ended_by(when_ready: WhenReady, ready: ReadyFile) -> None:
    await when_ready(ready)


async def _together(*steps: Coroutine[Any, Any, None]) -> None:
    """Do all at once. The first that fails cancels the others, and its exception is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(step)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
