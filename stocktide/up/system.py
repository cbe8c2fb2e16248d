"""The servers, the worker and the API of one `stocktide up`, from start to stop.

In: settings and options. Out: a running system, its ready file and run file. It starts Valkey and Kafka, the topics,
then worker and API, and stops API, worker, Kafka, Valkey, so that no process loses a server that it uses.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError

from stocktide.api.access.caller import METRICS
from stocktide.cli_options import own_server_hint
from stocktide.embedded import EmbeddedKafka, EmbeddedValkey
from stocktide.embedded.ports import is_port_free, pick_free_port
from stocktide.embedded.process import rotate_log
from stocktide.errors import CommandError, PortTaken
from stocktide.progress import Echo, announce_if_slow
from stocktide.settings import ALL, AUTO, DECIDE, PUBLISH, Settings
from stocktide.streams.kafka.admin import TopicsError
from stocktide.streams.topics import TOPICS
from stocktide.up.first_keys import FIRST_KEYS_FILE, make_first_keys
from stocktide.up.preflight import check_servers
from stocktide.up.program import Program, stocktide_program
from stocktide.up.prometheus import api_job, choose_port, find_prometheus, prometheus_program, store_key, worker_job
from stocktide.up.run_file import ReadyFile, RunFile, prepare_ready_file, write_ready_file
from stocktide.up.supervisor import SupervisedProcess, Supervisor
from stocktide.wait_for_servers import wait_for_topics

# How often the size of the logs is checked.
LOG_CHECK_SECONDS = 60.0

# From so many cores on, deciding and publishing are processes of their own: API, two workers, Kafka and Redis.
APART_CORES_MIN = 4

WhenReady = Callable[[ReadyFile], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """`embed_kafka` and `embed_redis`: start an embedded server instead of using the one in the settings;
    `with_prometheus`: start the Prometheus that is installed."""

    embed_kafka: bool = True
    embed_redis: bool = True
    ready_file: Path | None = None
    with_prometheus: bool = False

    def check(self, settings: Settings) -> None:
        """Refuse access settings for the embedded servers, which have no authentication. Raises CommandError."""
        if self.embed_kafka and settings.kafka_access():
            raise CommandError(
                f"STOCKTIDE_KAFKA_SECURITY is {settings.kafka_security}, but the embedded Kafka has no locks: "
                "leave the variable out"
                + own_server_hint("--kafka", "give the address of your own Kafka (--kafka or STOCKTIDE_KAFKA)")
            )
        if self.embed_redis and settings.redis_access():
            raise CommandError(
                "STOCKTIDE_REDIS_USER or STOCKTIDE_REDIS_PASSWORD is set, but the embedded Valkey has no locks: leave "
                "the variables out"
                + own_server_hint("--redis", "give the URL of your own Redis (--redis or STOCKTIDE_REDIS)")
            )


def choose_role(role: str, cores: int) -> str:
    """The role of the worker on this machine: ALL, or DECIDE beside a process that publishes. Raises CommandError."""
    if role in (DECIDE, PUBLISH):
        raise CommandError(
            f"STOCKTIDE_WORKER_ROLE is {role}, but `stocktide up` runs both roles: leave it out, or set it to all"
        )
    return DECIDE if role == AUTO and cores >= APART_CORES_MIN else ALL


class System:
    """The servers, the worker and the API of one `up`. Start once, supervise, stop."""

    def __init__(self, settings: Settings, options: UpOptions, echo: Echo) -> None:
        self._settings = settings
        self._options = options
        self._echo = echo
        self._logs = settings.data / "logs"
        self._run_file: RunFile | None = None
        self._ready_file_written = False
        self._publisher_port = 0
        self._prometheus_port = 0
        self._metrics_key: Path | None = None
        self._keys: dict[str, str] = {}
        # In the order in which they are stopped.
        self._programs: list[SupervisedProcess] = []
        self._servers: list[SupervisedProcess] = []

    async def start(self) -> None:
        """Start everything and wait until it is ready. Raises CommandError."""
        self._options.check(self._settings)
        # Before anything starts: it may be missing.
        prometheus = find_prometheus() if self._options.with_prometheus else None
        self._choose_ports()
        if not self._settings.open:
            self._keys = make_first_keys(self._settings.data, self._settings.keys_path)
            if prometheus is not None:
                self._metrics_key = store_key(self._settings.data, self._keys.get(METRICS))
        if self._options.ready_file is not None:
            prepare_ready_file(self._options.ready_file)
        try:
            await self._start_servers()
            async with announce_if_slow(self._echo, "waiting for Kafka to make the topics"):
                await wait_for_topics(self._settings)
        except (TopicsError, KafkaError) as error:
            raise CommandError(str(error)) from error
        self._programs = list(self._make_programs(prometheus))
        # A worker may wait for a command of its operator, which must find the system before it is ready.
        self._write_run_file()
        async with announce_if_slow(self._echo, "starting the worker and the API"):
            await _together(*(program.start() for program in self._programs))
        self._publish()

    async def supervise(self, when_ready: WhenReady | None, until_done: bool = False) -> None:
        """Keep everything running until cancelled, or with `until_done` until `when_ready` ends."""
        supervisor = Supervisor([*self._programs, *self._servers], self._echo, self._publish)
        steps = [supervisor.watch(), self._rotate_logs()]
        if when_ready is not None:
            steps.append(_call(when_ready, self.ready))
        await _together(*steps, last_ends=until_done)

    async def stop(self) -> None:
        """Stop everything in order."""
        if self._ready_file_written and self._options.ready_file is not None:
            with contextlib.suppress(OSError):  # stopping goes on
                self._options.ready_file.unlink(missing_ok=True)
        if self._run_file is not None:
            self._run_file.remove()
        for service in (*self._programs, *self._servers):
            async with announce_if_slow(self._echo, f"waiting for {service.name} to stop"):
                await service.stop()

    @property
    def has_children(self) -> bool:
        """Whether a child process was ever started."""
        return any(service.pid for service in (*self._programs, *self._servers))

    def kill(self) -> None:
        """Send SIGKILL to everything."""
        for service in (*self._programs, *self._servers):
            service.kill()

    @property
    def api(self) -> str:
        """The API's address for local clients."""
        host = self._settings.host
        scheme = "https" if self._settings.tls_cert else "http"
        return f"{scheme}://{'127.0.0.1' if host in ('0.0.0.0', '::', '') else host}:{self._settings.port}"

    @property
    def worker(self) -> str:
        """The address of the worker's `/readyz` and `/metrics`."""
        return f"http://127.0.0.1:{self._settings.worker_port}"

    @property
    def publisher(self) -> str:
        """The address of the worker that publishes, if that is a process of its own; else empty."""
        return f"http://127.0.0.1:{self._publisher_port}" if self._publisher_port else ""

    @property
    def prometheus(self) -> str:
        """The address of the Prometheus that was started; else empty."""
        return f"http://127.0.0.1:{self._prometheus_port}" if self._prometheus_port else ""

    @property
    def ready(self) -> ReadyFile:
        """The content of the ready file."""
        settings = self._settings
        return ReadyFile(
            api=self.api,
            worker=self.worker,
            kafka=settings.kafka,
            redis=settings.redis,
            app_id=settings.app_id,
            topics={topic.name: topic.full_name(settings.app_id) for topic in TOPICS},
            pids={service.name: service.pid or 0 for service in (*self._programs, *self._servers)},
            publisher=self.publisher,
            prometheus=self.prometheus,
            keys=self._keys,
        )

    def greeting(self) -> str:
        """The addresses, for the console."""
        ready, settings = self.ready, self._settings
        if settings.open:
            access = "It runs WITHOUT KEYS (--open): everything on this machine may change stock."
        elif self._keys:
            access = (
                f"  keys           {settings.data / FIRST_KEYS_FILE}  (for its owner only)\n"
                "                 `stocktide keys first viewer` prints the one for the board"
            )
        else:
            access = f"  keys           as `stocktide keys list` shows, in {settings.keys_path}"
        prometheus = f"  Prometheus     {ready.prometheus}/\n" if ready.prometheus else ""
        return (
            f"Stocktide serves:\n"
            f"  API and board  {ready.api}/\n"
            f"  Kafka          {ready.kafka}  (topics {ready.topics['orders']}, {ready.topics['movements']})\n"
            f"  worker         {ready.worker}/metrics\n"
            f"{prometheus}"
            f"  logs           {self._logs}\n"
            f"{access}\n"
            f"Ctrl-C stops everything, the data stay."
        )

    def _choose_ports(self) -> None:
        """Choose the ports once, so that a restarted process keeps its port. Raises PortTaken."""
        settings = self._settings
        port = settings.port or pick_free_port(settings.host)
        if settings.port and not is_port_free(port, settings.host):
            raise PortTaken("the API", settings.host, port, "choose another with --port, or 0 for a free one")
        worker_port = settings.worker_port or pick_free_port(avoid=[port])
        if settings.worker_port and not is_port_free(worker_port):
            raise PortTaken("the worker", "127.0.0.1", worker_port, "set STOCKTIDE_WORKER_PORT to another")
        role = choose_role(settings.worker_role, len(os.sched_getaffinity(0)))
        if role == DECIDE:
            self._publisher_port = pick_free_port(avoid=[port, worker_port])
        if self._options.with_prometheus:
            self._prometheus_port = choose_port([port, worker_port, self._publisher_port])
        self._settings = replace(settings, port=port, worker_port=worker_port, worker_role=role)

    def _make_programs(self, prometheus: str | None) -> Iterator[Program]:
        settings, logs, echo = self._settings, self._logs, self._echo
        yield stocktide_program("api", settings, self.api, logs, echo)
        yield stocktide_program("worker", settings, self.worker, logs, echo)
        if self.publisher:
            own = replace(settings, worker_role=PUBLISH, worker_port=self._publisher_port)
            yield stocktide_program("publisher", own, self.publisher, logs, echo, command="worker")
        if prometheus is not None:
            workers = [self.worker, self.publisher] if self.publisher else [self.worker]
            jobs = [worker_job(workers), api_job(self.api, self._metrics_key)]
            yield prometheus_program(prometheus, settings.data, self._prometheus_port, jobs, logs, echo)

    async def _start_servers(self) -> None:
        data, options = self._settings.data, self._options
        kafka = EmbeddedKafka(data / "kafka", self._logs / "kafka.log", self._echo)
        valkey = EmbeddedValkey(data / "valkey", self._logs / "valkey.log", self._echo)
        self._servers = [
            *([kafka] if options.embed_kafka else []),
            *([valkey] if options.embed_redis else []),
        ]
        # The external servers first: if one cannot be used, nothing was started.
        await check_servers(self._settings, self._echo, kafka=not options.embed_kafka, redis=not options.embed_redis)
        await _together(*(service.start() for service in self._servers))
        self._settings = replace(
            self._settings,
            kafka=kafka.address if options.embed_kafka else self._settings.kafka,
            redis=valkey.url if options.embed_redis else self._settings.redis,
        )

    def _publish(self) -> None:
        """Write the addresses and process ids into the run file and the ready file."""
        ready = self.ready
        self._write_run_file()
        # The ready file comes last: it says that everything else is there.
        if self._options.ready_file is not None:
            write_ready_file(self._options.ready_file, ready)
            self._ready_file_written = True

    def _write_run_file(self) -> None:
        self._run_file = self._run_file or RunFile(self._settings.data, self._settings.partitions)
        self._run_file.write(self.ready)

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.sleep(LOG_CHECK_SECONDS)
            for log in self._logs.glob("*.log"):
                rotate_log(log)


async def _call(when_ready: WhenReady, ready: ReadyFile) -> None:
    await when_ready(ready)


async def _together(*steps: Coroutine[Any, Any, None], last_ends: bool = False) -> None:
    """Run all concurrently. The first failure cancels the others and is raised; with `last_ends`, the end of the last
    step cancels the others too."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step) for step in steps]
            if last_ends:
                await tasks[-1]
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
