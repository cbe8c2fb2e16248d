"""One run: the system starts, and the load and faults run; then all is healed and quiesces.

In: a duration, a seed, the faults. Out: a `FaultRunResult` with the history to judge.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from stocktide.client.feed import FeedTransport
from stocktide.errors import CommandError
from stocktide.loadtest.client.http import StocktideClient
from stocktide.loadtest.client.topics import TopicReader
from stocktide.loadtest.oracle.history import (
    FaultRecord,
    HistoryClock,
    HistoryFile,
    HistoryRecord,
    RunQuiesced,
    RunStarted,
    TopicsRead,
)
from stocktide.loadtest.oracle.judge import LiveJudge
from stocktide.loadtest.run.quiesce import READS_MAX, FinalStateReader, wait_until_quiet
from stocktide.loadtest.run.recording import RecordingSubscriber, RequestRecorder, recorders
from stocktide.retry import poll_until
from tests.faults.cluster import APP_ID, REBUILT_SECONDS_MAX, Cluster, ClusterOptions
from tests.faults.edge_scenarios import edge_skus
from tests.faults.fault import Fault, FaultContext, FaultNotInjected
from tests.faults.faults import PAUSE_SECONDS_MAX, ScheduledFault, plan_faults
from tests.faults.load import ScenarioRates, ScenarioRunner
from tests.faults.queue_scenarios import QUEUED_SKUS
from tests.faults.recording_clients import RecordingClients
from tests.faults.result import FaultRunResult, InjectedFault
from tests.faults.scenarios import CHANNELS, HOLD_SECONDS_USUAL, SKUS
from tests.harness.workers import AllBacklogs, all_backlogs

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
# How often the history records that the topics are read: a twentieth of the time after which work has stalled.
TOPICS_READ_INTERVAL_MS = 500
HEALING = "healing"

WriteLine = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRunOptions:
    """What to run. `folder` gets the servers' data, logs and the history. A run with fewer than `strikes_min` faults is
    extended by up to `overtime_seconds_max`; faults that were not injected as planned do not count. The pause between
    two faults is up to `pause_seconds_max`."""

    folder: Path
    seconds: float
    seed: int
    faults: Sequence[Fault]
    strikes_min: int = 0
    overtime_seconds_max: float = OVERTIME_SECONDS_MAX
    pause_seconds_max: float = PAUSE_SECONDS_MAX
    rates: ScenarioRates = field(default_factory=ScenarioRates)
    shape: ClusterOptions = field(default_factory=ClusterOptions)


class FaultInjectionRun:
    def __init__(self, options: FaultRunOptions, write_line: WriteLine) -> None:
        self._options = options
        self._write_line = write_line
        self._cluster = Cluster(options.folder, options.shape)
        self._history = HistoryFile(options.folder / "history.ndjson")
        self._result = FaultRunResult(options.seed, options.folder / "history.ndjson", options.shape.park_seconds)
        self._clock = HistoryClock()
        self._topics_read_at = 0
        self._began = time.monotonic()
        self._judge = LiveJudge(recorded_live=True)

    async def run(self) -> FaultRunResult:
        """Run, and return the result. Raises what the start raises."""
        options, cluster = self._options, self._cluster
        async with AsyncExitStack() as stack:
            stack.enter_context(self._history)
            stack.push_async_callback(cluster.close)
            await cluster.start()
            self._log(f"the system is up: {options.shape.brokers} broker(s), seed {options.seed}")
            self._add(RunStarted(self._clock.now(), APP_ID, options.seed))
            kafka, apis = cluster.brokers.address, [api.url for api in cluster.apis]
            recorder = RequestRecorder(self._clock, 0, self._add)
            clients = await stack.enter_async_context(RecordingClients(recorder, apis, kafka, APP_ID))
            load = ScenarioRunner(options.seed, options.rates, clients)

            def on_row(record: HistoryRecord) -> None:
                self._add(record)
                load.on_record(record)

            reader = TopicReader(kafka, APP_ID, recorders(self._clock, on_row), self._note_topics_read)
            stack.push_async_callback(reader.stop)
            await reader.start()
            await load.receive_opening_stock(reader.check)
            self._subscribe(apis, stack)
            await self._run_load_with_faults(load)
            await self._quiesce(reader)
            self._add(RunQuiesced(self._clock.now()))
            await self._read_final_state(apis, load)
            self._result.rows = reader.rows
            self._result.failures = [repr(failure) for failure in load.failures]
            self._result.ends = Counter(f"{member.name} {end}" for member in cluster.members for end in member.exits)
        return self._result

    def _note_topics_read(self) -> None:
        now = self._clock.now()
        if now >= self._topics_read_at + TOPICS_READ_INTERVAL_MS:
            self._topics_read_at = now
            self._add(TopicsRead(now))

    def _subscribe(self, apis: list[str], stack: AsyncExitStack) -> None:
        """One subscriber of each channel at each API, by the transports in turn."""
        for at in range(len(apis)):
            for nth, channel in enumerate(CHANNELS):
                own_apis = apis[at:] + apis[:at]
                transport: FeedTransport = "websocket" if (at + nth) % 2 else "sse"
                name = f"{channel}-{at + 1}.{transport}"
                subscriber = RecordingSubscriber(name, channel, own_apis, self._clock, self._add, transport=transport)
                stack.push_async_callback(subscriber.stop)
                subscriber.start()

    async def _read_final_state(self, apis: list[str], load: ScenarioRunner) -> None:
        async with StocktideClient(apis, READS_MAX) as client:
            reader = FinalStateReader(client, self._clock, self._add)
            orders = [*(f"o{number}" for number in range(1, load.orders + 1)), *load.other_orders]
            skus = [*SKUS, *QUEUED_SKUS, *edge_skus(self._options.rates.breadth)]
            await reader.read(CHANNELS, skus, orders)

    async def _run_load_with_faults(self, load: ScenarioRunner) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        running = asyncio.create_task(load.run())
        injecting = asyncio.create_task(self._inject_faults())
        reporting = asyncio.create_task(self._progress(load))
        try:
            await asyncio.wait((running, injecting), timeout=self._options.seconds, return_when=asyncio.FIRST_COMPLETED)
            await poll_until(self._has_injected_enough, self._options.overtime_seconds_max)
        finally:
            for task in (injecting, reporting):
                task.cancel()
            await asyncio.gather(injecting, reporting, return_exceptions=True)
            self._log("healing what is left, the load ends")
            self._add(FaultRecord(self._clock.now(), HEALING))  # it restarts processes
            await self._cluster.heal()
            await self._cluster.wait_ready(REBUILT_SECONDS_MAX)  # nothing is answered during a rebuild
            self._add(FaultRecord(self._clock.now(), HEALING, "healed"))
            load.stop()
            await running
        if not injecting.cancelled() and (error := injecting.exception()) is not None:
            raise error
        self._result.load_seconds = loop.time() - began

    # Faults

    async def _has_injected_enough(self) -> bool:
        return sum(injected.completed for injected in self._result.injected) >= self._options.strikes_min

    async def _inject_faults(self) -> None:
        """Follow the schedule until cancelled, then wait for the faults in progress."""
        in_progress: dict[asyncio.Task[None], Fault] = {}
        try:
            await self._follow_schedule(in_progress)
            await asyncio.Event().wait()  # without faults the load goes on
        finally:
            await asyncio.gather(*in_progress, return_exceptions=True)

    async def _follow_schedule(self, in_progress: dict[asyncio.Task[None], Fault]) -> None:
        for scheduled in plan_faults(self._options.seed, self._options.faults, self._options.pause_seconds_max):
            await asyncio.sleep(scheduled.pause_seconds)
            while len(in_progress) >= CONCURRENT_FAULTS_MAX or any(
                scheduled.fault.touches & fault.touches for fault in in_progress.values()
            ):
                done, _ = await asyncio.wait(in_progress, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del in_progress[task]
                    task.result()
            context = FaultContext(self._cluster, random.Random(f"{self._options.seed}-strike-{scheduled.number}"))
            task = asyncio.create_task(self._inject(scheduled, context))
            in_progress[task] = scheduled.fault
            if scheduled.waits:
                await asyncio.wait([task])
                await self._wait_until_answered()

    async def _inject(self, scheduled: ScheduledFault, context: FaultContext) -> None:
        loop = asyncio.get_running_loop()
        name = scheduled.fault.name
        injected = InjectedFault(name, loop.time())
        self._result.injected.append(injected)
        self._add(FaultRecord(self._clock.now(), name))
        try:
            async with asyncio.timeout(FAULT_SECONDS_MAX):
                injected.detail = await scheduled.fault.inject(context)
        except FaultNotInjected as reason:
            injected.failed = str(reason)
        except (KafkaError, RedisError, CommandError, TimeoutError, OSError) as error:
            injected.failed = repr(error)
        injected.ended = loop.time()
        self._add(FaultRecord(self._clock.now(), name, "healed", injected.failed or injected.detail))
        took = injected.ended - injected.began
        self._log(
            f"fault {scheduled.number}: {name} {injected.detail} in {took:.1f} s"
            + f" FAILED: {injected.failed}" * bool(injected.failed)
        )

    async def _wait_until_answered(self) -> None:
        since, answered_at = asyncio.get_running_loop().time(), self._result.answered_at

        async def is_answered() -> bool:
            return bool(answered_at) and answered_at[-1] > since

        await poll_until(is_answered, ANSWERED_SECONDS_MAX)

    # Rest

    async def _quiesce(self, reader: TopicReader) -> None:
        """Wait until nothing changes; record what still does."""
        cluster, loop = self._cluster, asyncio.get_running_loop()
        began = loop.time()
        self._log("coming to rest")
        await cluster.wait_ready()
        async with all_backlogs(cluster.brokers.address, APP_ID) as backlog:
            unquiet = [await self._wait_until_quiet(backlog, reader, 0.0)]
            await asyncio.sleep(max(HOLD_SECONDS_USUAL, cluster.shape.park_seconds) + EXPIRY_STEP_SECONDS)
            unquiet.append(await self._wait_until_quiet(backlog, reader, QUIET_SECONDS))
            self._result.unquiet = "; ".join(filter(None, unquiet))
        await reader.catch_up()
        reader.check()
        self._result.rest_seconds = loop.time() - began

    @staticmethod
    async def _wait_until_quiet(backlog: AllBacklogs, reader: TopicReader, quiet_seconds: float) -> str:
        def rows() -> int:
            reader.check()
            return reader.rows

        return await wait_until_quiet(backlog, rows, quiet_seconds=quiet_seconds, seconds_max=QUIESCE_SECONDS_MAX)

    async def _progress(self, load: ScenarioRunner) -> None:
        before = 0
        while True:
            await asyncio.sleep(10)
            rate = (self._result.commands - before) / 10
            before = self._result.commands
            faults = len(self._result.injected)
            self._log(f"{before} commands, {rate:.0f}/s, {load.in_progress} scenarios in progress, {faults} faults")

    def _add(self, record: HistoryRecord) -> None:
        """Record, count and judge."""
        self._history.add(record)
        self._result.on_record(record)
        for violation in self._judge.feed(record):
            self._log(f"VIOLATION {violation.checker}: {violation.what}")

    def _log(self, line: str) -> None:
        self._write_line(f"{time.monotonic() - self._began:7.1f} s  {line}")
