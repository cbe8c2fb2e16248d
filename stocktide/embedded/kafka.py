"""The embedded Kafka: one broker in KRaft mode, on loopback, its files and ports kept in a folder."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import uuid
from functools import partial
from pathlib import Path

from stocktide.embedded.class_archive import ClassArchive
from stocktide.embedded.jars import class_path
from stocktide.embedded.java import find_java
from stocktide.embedded.ports import is_port_free, persisted_ports
from stocktide.embedded.process import ChildProcess
from stocktide.embedded.server import PORT_TRIES_MAX, EmbeddedServer
from stocktide.errors import EmbeddedError
from stocktide.progress import Echo, announce_if_slow, silent
from stocktide.streams.topics import JOURNAL_RECORD_BYTES_MAX
from stocktide.wait_for_servers import kafka_answers

HEAP = "512m"
FORMAT_SECONDS_MAX = 60.0
# A broker flushes its segments when it stops; after SIGKILL it checks them at the next start.
STOP_SECONDS_MAX = 15.0
PORTS_FILE = "ports.json"
# A record's key, headers and batch header beside the largest value.
RECORD_OVERHEAD_BYTES = 64 * 1024

_LOGGING = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={log_dirs}
# Stocktide creates the topics, with their settings.
auto.create.topics.enable=false
delete.topic.enable=true
message.max.bytes={record_bytes_max}
# One broker: Kafka's own topics have one replica and few partitions.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
# Otherwise the first join of a group waits 3 s for other members.
group.initial.rebalance.delay.ms=0
# Lets a test of a lost member use a short session timeout.
group.min.session.timeout.ms=1000
# A few clients on a small machine.
num.network.threads=2
num.io.threads=4
background.threads=2
num.recovery.threads.per.data.dir=2
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=16777216
log.segment.bytes=134217728
log.index.size.max.bytes=1048576
# A crashed broker can register again only after its old session has ended (9 s by default).
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""


class EmbeddedKafka(EmbeddedServer):
    """A Kafka broker as a child process. `start()` may be called again after its end and restores its data."""

    name = "kafka"

    def __init__(self, folder: Path, log: Path, progress: Echo = silent) -> None:
        super().__init__("Kafka", folder, log, progress, STOP_SECONDS_MAX)
        self._archive: ClassArchive | None = None

    @property
    def address(self) -> str:
        """Bootstrap server, HOST:PORT. Known once started."""
        return f"127.0.0.1:{self._known_port}"

    async def start(self) -> None:
        """Start it and wait until it answers. Raises EmbeddedError with the reason why it does not."""
        classes = await class_path(self._progress)
        java = await find_java()
        self._make_folder()
        self._archive = ClassArchive(java, classes, self.folder)
        async with announce_if_slow(self._progress, "starting Kafka"):
            for attempt in range(1, PORT_TRIES_MAX + 1):
                ports = await persisted_ports(self.folder / PORTS_FILE, ("broker", "controller"))
                await self._format(java, classes, ports)
                await self.spawn(self._command(java, classes, self._archive.options()))
                if await self._wait_until_answers(partial(kafka_answers, f"127.0.0.1:{ports['broker']}")):
                    self._port = ports["broker"]
                    return
                if all(is_port_free(port) for port in ports.values()) or attempt == PORT_TRIES_MAX:
                    break
        raise self._start_failure()

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    async def stop(self, seconds_max: float | None = None) -> None:
        """As any child; a class archive that the JVM has made at its end is kept."""
        await super().stop(seconds_max)
        if self._archive is not None:
            self._archive.keep(self.ended_normally)

    def _command(self, java: Path, classes: str, archive: list[str]) -> list[str]:
        # Only the quick compiler: the other one took 0.4 of a core of a new broker (docs/performance.md).
        return [
            str(java),
            *_LOGGING,
            f"-Xmx{HEAP}",
            "-Xms128m",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=20",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            *archive,
            "-cp",
            classes,
            "kafka.Kafka",
            str(self._properties),
        ]

    async def _format(self, java: Path, classes: str, ports: dict[str, int]) -> None:
        """Write the settings, and format the storage once."""
        logs = self.folder.resolve() / "logs"
        self._properties.write_text(self._settings(ports, logs))
        if self._is_formatted(logs):
            return
        try:
            await self._run_storage_tool(java, classes, logs)
        finally:
            if not self._is_formatted(logs):
                self._remove_incomplete(logs)

    def _settings(self, ports: dict[str, int], logs: Path) -> str:
        """The content of server.properties."""
        size = JOURNAL_RECORD_BYTES_MAX + RECORD_OVERHEAD_BYTES
        return _PROPERTIES.format(**ports, log_dirs=logs, record_bytes_max=size)

    def _storage_options(self) -> tuple[str, ...]:
        """The options with which the storage is formatted."""
        return ("-t", storage_identity(uuid.uuid4().bytes))

    @staticmethod
    def _is_formatted(logs: Path) -> bool:
        """Whether the storage is complete: the tool writes meta.properties last."""
        return (logs / "meta.properties").exists()

    def _remove_incomplete(self, logs: Path) -> None:
        """Remove a storage that was never completed."""
        shutil.rmtree(logs, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._properties.unlink(missing_ok=True)
            (self.folder / PORTS_FILE).unlink(missing_ok=True)
            self.folder.rmdir()

    async def _run_storage_tool(self, java: Path, classes: str, logs: Path) -> None:
        shutil.rmtree(logs, ignore_errors=True)
        options = ("-c", str(self._properties), *self._storage_options())
        tool = ("kafka.tools.StorageTool", "format", *options)
        child = ChildProcess("Kafka's storage tool", self.log)
        shared = [] if self._archive is None else self._archive.use()
        await child.spawn([str(java), *_LOGGING, "-XX:TieredStopAtLevel=1", *shared, "-cp", classes, *tool])
        try:
            status = await asyncio.wait_for(child.wait(), FORMAT_SECONDS_MAX)
        except TimeoutError:
            status = -1
        finally:
            await child.stop(0)
        if status != 0:
            raise EmbeddedError(f"Kafka's storage in {logs} cannot be made:\n{child.last_log_lines()}")


def storage_identity(random: bytes) -> str:
    """16 bytes as a cluster id. It never begins with a hyphen, which the tool reads as an option."""
    return base64.urlsafe_b64encode(bytes([random[0] & 0x7F]) + random[1:]).decode().rstrip("=")
