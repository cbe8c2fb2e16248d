"""One run: the system starts, and the load and faults run; then all is healed and quiesces.

In: a duration, a seed, the faults. Out: a `FaultRunResult` with the history to judge.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from stocktide.errors import CommandError
from stocktide.loadtest.oracle.history import FaultRecord as FaultRecord
from stocktide.loadtest.oracle.history import HistoryFile, HistoryRecord, RunQuiesced, RunStarted
from stocktide.loadtest.oracle.judge import LiveJudge
from stocktide.retry import poll_until
from tests.faults.cluster import APP_ID, PARTITIONS, Cluster, ClusterOptions
from tests.faults.edge_scenarios import edge_skus
from tests.faults.fault import Fault, FaultContext, FaultNotInjected
from tests.faults.faults import PAUSE_SECONDS_MAX, ScheduledFault, plan_faults
from tests.faults.final_reads import read_everything
from tests.faults.load import ScenarioRates, ScenarioRunner
from tests.faults.recording_clients import RecordingClients, RunRecorder
from tests.faults.recording_readers import ReconnectingSubscriber, RecordingTopicReader
from tests.faults.scenarios import CHANNELS, HOLD_SECONDS_USUAL

# Concurrent faults; they touch different components.
CONCURRENT_FAULTS_MAX = 3
# The maximum wait after a fault until writes are answered again.
ANSWERED_SECONDS_MAX = 12.0
# A fault that hangs is a bug of the suite; it is healed at the end of the run.
FAULT_SECONDS_MAX = 90.0
# The system quiesces within this: rebalances, a rebuild, parked events, holds that end.
QUIESCE_SECONDS_MAX = 240.0
QUIET_SECONDS = 3.0
# The expiry step runs within this after the last hold and the last parked event expire.
EXPIRY_STEP_SECONDS = 3.0
# The extension of a run that has injected too few faults.
OVERTIME_SECONDS_MAX = 60.0

WriteLine = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRunOptions:
    """What to run. `folder` gets the servers' data, logs and the history. A run with fewer than `strikes_min` faults is
    extended. The pause between two faults is up to `pause_seconds_max`."""

    folder: Path
    seconds: float
    seed: int
    faults: Sequence[Fault]
    strikes_min: int = 0
    pause_seconds_max: float = PAUSE_SECONDS_MAX
    rates: ScenarioRates = field(default_factory=ScenarioRates)
    shape: ClusterOptions = field(default_factory=ClusterOptions)


@dataclass(slots=True)
class InjectedFault:
    """A fault as it was injected, in s of the loop's clock."""

    name: str
    began: float
    ended: float = 0.0
    detail: str = ""
    failed: str = ""


@dataclass(slots=True)
class FaultRunResult:
    """The result of a run. `unquiet` is the reason why it did not quiesce."""

    seed: int
    history: Path
    park_seconds: int
    injected: list[InjectedFault] = field(default_factory=list)
    answered_at: list[float] = field(default_factory=list)
    commands: int = 0
    doors: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    load_seconds: float = 0.0
    rest_seconds: float = 0.0
    unquiet: str = ""
    failures: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)


class FaultInjectionRun:
    def __init__(self, options: FaultRunOptions, write_line: WriteLine) -> None:
        self._options = options
        self._write_line = write_line
        self._history = options.folder / "history.ndjson"
        self._result = FaultRunResult(options.seed, self._history, options.shape.park_seconds)
        self._began = time.monotonic()
        self._judge = LiveJudge(recorded_live=True)

    async def run(self) -> FaultRunResult:
        """Run, and return the result. Raises what the start raises."""
        options = self._options
        async with AsyncExitStack() as stack:
            cluster = Cluster(options.folder, options.shape)
            stack.push_async_callback(cluster.close)
            await cluster.start()
            self._log(f"the system is up: {options.shape.brokers} broker(s), seed {options.seed}")
            file = stack.enter_context(HistoryFile(self._history))
            recorder = RunRecorder(file, self._judge_live)
            recorder.add(RunStarted(recorder.now, APP_ID, options.seed))
            apis = [api.address for api in cluster.apis]
            clients = RecordingClients(recorder, apis, cluster.brokers.address, cluster.topic)
            stack.push_async_callback(clients.close)
            await clients.open()
            load = ScenarioRunner(options.seed, options.rates, clients)
            reader = RecordingTopicReader(cluster.brokers.address, cluster.topic, PARTITIONS, recorder, load.on_record)
            stack.push_async_callback(reader.stop)
            await reader.start()
            subscribers = self._subscribers(apis, recorder, stack)
            await load.receive_opening_stock(reader.check)
            for subscriber in subscribers:
                subscriber.start()
            await self._run_load_with_faults(cluster, recorder, load)
            await self._quiesce(cluster, reader)
            recorder.add(RunQuiesced(recorder.now))
            await read_everything(
                clients, recorder, load.orders, others=load.other_orders, skus=edge_skus(options.rates.breadth)
            )
            self._complete_result(recorder, reader, cluster, load)
        return self._result

    def _subscribers(
        self, apis: list[str], recorder: RunRecorder, stack: AsyncExitStack
    ) -> list[ReconnectingSubscriber]:
        """One subscriber of each channel at each API."""
        subscribers = []
        for at in range(len(apis)):
            for channel in CHANNELS:
                name = f"{channel}-{at + 1}"
                subscribers.append(ReconnectingSubscriber(name, channel, apis[at:] + apis[:at], recorder))
                stack.push_async_callback(subscribers[-1].stop)
        return subscribers

    async def _run_load_with_faults(self, cluster: Cluster, recorder: RunRecorder, load: ScenarioRunner) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        running = asyncio.create_task(load.run())
        injecting = asyncio.create_task(self._inject_faults(cluster, recorder))
        reporting = asyncio.create_task(self._progress(recorder, load))
        try:
            await asyncio.wait((running, injecting), timeout=self._options.seconds, return_when=asyncio.FIRST_COMPLETED)
            await poll_until(self._has_injected_enough, OVERTIME_SECONDS_MAX)
        finally:
            for task in (injecting, reporting):
                task.cancel()
            await asyncio.gather(injecting, reporting, return_exceptions=True)
            self._log("healing what is left, the load ends")
            await self._heal(cluster)
            load.stop()
            await running
        if not injecting.cancelled() and (error := injecting.exception()) is not None:
            raise error
        self._result.load_seconds = loop.time() - began

    # Faults

    async def _has_injected_enough(self) -> bool:
        return len([injected for injected in self._result.injected if injected.ended]) >= self._options.strikes_min

    async def _inject_faults(self, cluster: Cluster, recorder: RunRecorder) -> None:
        """Follow the schedule until cancelled, then wait for the faults in progress."""
        in_progress: dict[asyncio.Task[None], Fault] = {}
        try:
            await self._follow_schedule(cluster, recorder, in_progress)
            await asyncio.Event().wait()  # without faults the load goes on
        finally:
            await asyncio.gather(*in_progress, return_exceptions=True)

    async def _follow_schedule(
        self, cluster: Cluster, recorder: RunRecorder, in_progress: dict[asyncio.Task[None], Fault]
    ) -> None:
        for scheduled in plan_faults(self._options.seed, self._options.faults, self._options.pause_seconds_max):
            await asyncio.sleep(scheduled.pause_seconds)
            while len(in_progress) >= CONCURRENT_FAULTS_MAX or any(
                scheduled.fault.touches & fault.touches for fault in in_progress.values()
            ):
                done, _ = await asyncio.wait(in_progress, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del in_progress[task]
                    task.result()
            context = FaultContext(cluster, recorder, random.Random(f"{self._options.seed}-strike-{scheduled.number}"))
            task = asyncio.create_task(self._inject(scheduled, context))
            in_progress[task] = scheduled.fault
            if scheduled.waits:
                await asyncio.wait([task])
                await self._wait_until_answered(recorder)

    async def _inject(self, scheduled: ScheduledFault, context: FaultContext) -> None:
        loop = asyncio.get_running_loop()
        recorder, name = context.recorder, scheduled.fault.name
        injected = InjectedFault(name, loop.time())
        self._result.injected.append(injected)
        recorder.add(FaultRecord(recorder.now, name))
        try:
            async with asyncio.timeout(FAULT_SECONDS_MAX):
                injected.detail = await scheduled.fault.inject(context)
        except FaultNotInjected as reason:
            injected.failed = str(reason)
        except (KafkaError, RedisError, CommandError, TimeoutError, OSError) as error:
            injected.failed = repr(error)
        injected.ended = loop.time()
        recorder.add(FaultRecord(recorder.now, name, "healed", injected.failed or injected.detail))
        took = injected.ended - injected.began
        self._log(
            f"fault {scheduled.number}: {name} {injected.detail} in {took:.1f} s"
            + f" FAILED: {injected.failed}" * bool(injected.failed)
        )

    async def _wait_until_answered(self, recorder: RunRecorder) -> None:
        since = asyncio.get_running_loop().time()

        async def is_answered() -> bool:
            return bool(recorder.answered_at) and recorder.answered_at[-1] > since

        await poll_until(is_answered, ANSWERED_SECONDS_MAX)

    async def _heal(self, cluster: Cluster) -> None:
        """Undo what an interrupted fault left behind."""
        for index in range(len(cluster.brokers)):
            cluster.brokers.send(index, signal.SIGCONT)
            with suppress(CommandError):
                if not cluster.brokers.running(index):
                    await cluster.brokers.start_one(index)
        for server in filter(None, (cluster.primary, cluster.replica)):
            server.send(signal.SIGCONT)
            if not server.running:
                await server.start()
        primary = cluster.primary
        for command in (("CONFIG", "SET", "maxmemory", "0"), ("CLIENT", "UNPAUSE")):
            await primary.command(*command)
        if await primary.role() != "master":
            await primary.command("REPLICAOF", "NO", "ONE")
        cluster.redirect_all()
        await cluster.restore_topics()
        for member in cluster.members:
            member.disarm()
            member.send(signal.SIGCONT)
            if member.extra_environ:
                member.extra_environ = {}
                member.send(signal.SIGTERM)
        if not cluster.shape.second_worker:
            await cluster.workers[1].stop()

    # Rest

    async def _quiesce(self, cluster: Cluster, reader: RecordingTopicReader) -> None:
        """Wait until nothing changes; record what still does."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._log("coming to rest")
        await cluster.wait_ready()
        await self._wait_until_quiet(cluster, reader, 0.0)
        await asyncio.sleep(max(HOLD_SECONDS_USUAL, cluster.shape.park_seconds) + EXPIRY_STEP_SECONDS)
        await self._wait_until_quiet(cluster, reader, QUIET_SECONDS)
        await reader.catch_up()
        self._result.rest_seconds = loop.time() - began

    async def _wait_until_quiet(self, cluster: Cluster, reader: RecordingTopicReader, seconds: float) -> None:
        """Wait until all input is consumed and no row has arrived for `seconds`."""
        loop = asyncio.get_running_loop()
        began = quiet_since = loop.time()
        rows, lags = reader.rows, {"": 1}
        while loop.time() < began + QUIESCE_SECONDS_MAX:
            reader.check()
            with suppress(KafkaError):
                lags = await cluster.uncommitted()
            if any(lags.values()) or (seconds and reader.rows != rows):
                rows, quiet_since = reader.rows, loop.time()
            elif loop.time() - quiet_since >= seconds:
                return
            await asyncio.sleep(0.3)
        self._result.unquiet = f"after {QUIESCE_SECONDS_MAX:.0f} s: uncommitted {lags}, rows {rows} to {reader.rows}"

    def _complete_result(
        self, recorder: RunRecorder, reader: RecordingTopicReader, cluster: Cluster, load: ScenarioRunner
    ) -> None:
        result = self._result
        result.commands, result.rows = recorder.commands, reader.rows
        result.doors, result.kinds, result.statuses = recorder.doors, recorder.kinds, recorder.statuses
        result.answered_at = recorder.answered_at
        result.failures = [repr(failure) for failure in load.failures]
        result.ends = Counter(f"{end.name} {end.status}" for member in cluster.members for end in member.exits)

    async def _progress(self, recorder: RunRecorder, load: ScenarioRunner) -> None:
        before = 0
        while True:
            await asyncio.sleep(10)
            rate = (recorder.commands - before) / 10
            before = recorder.commands
            faults = len(self._result.injected)
            self._log(f"{before} commands, {rate:.0f}/s, {load.in_progress} scenarios in progress, {faults} faults")

    def _judge_live(self, record: HistoryRecord) -> None:
        for violation in self._judge.feed(record):
            self._log(f"VIOLATION {violation.checker}: {violation.what}")

    def _log(self, line: str) -> None:
        self._write_line(f"{time.monotonic() - self._began:7.1f} s  {line}")
