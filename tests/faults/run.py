"""One run: the system starts, the load goes on, faults strike; then all is healed and comes to rest, and is judged.

In: how long, a seed, which faults. Out: an `FaultRunResult` of the run, whose verdict says whether a promise was
broken.
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
from tests.faults.faults import PAUSE_SECONDS_MAX, ScheduledFault, plan
from tests.faults.final_reads import read_everything
from tests.faults.load import ScenarioRates, ScenarioRunner
from tests.faults.recording_clients import RecordingClients, RunRecorder
from tests.faults.recording_readers import ReconnectingSubscriber, RecordingTopicReader
from tests.faults.scenarios import CHANNELS, HOLD_SECONDS_USUAL

# So many at a time, where they touch different parts.
UNDER_WAY_MAX = 3
# A strike that waits does so until writes are answered again, but not longer.
ANSWERED_SECONDS_MAX = 12.0
# A fault that hangs is a bug of the suite; its healing is done at the end of the run all the same.
FAULT_SECONDS_MAX = 90.0
# The system comes to rest within this: rebalances, a rebuild, what was parked, holds that end.
REST_SECONDS_MAX = 240.0
QUIET_SECONDS = 3.0
# The holds of the load end, and what waits for an order that never comes is given up; this long after that a turn of
# the expiry step was.
LAST_SECONDS = 3.0
# A run that has not done its faults in time goes on for so long.
OVERTIME_SECONDS_MAX = 60.0

WriteLine = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRunOptions:
    """What to run. `folder` gets servers' data, logs and the history. A run with fewer than `strikes_min` faults goes
    on for a while. Between two faults there are up to `pause_seconds_max`."""

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
    """A fault as it was done, in s of the loop's clock."""

    name: str
    began: float
    ended: float = 0.0
    detail: str = ""
    failed: str = ""


@dataclass(slots=True)
class FaultRunResult:
    """What happened in a run. `unquiet` says why it did not come to rest."""

    seed: int
    history: Path
    park_seconds: int
    struck: list[InjectedFault] = field(default_factory=list)
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
    """Does one run."""

    def __init__(self, options: FaultRunOptions, say: WriteLine) -> None:
        self._options = options
        self._say = say
        self._history = options.folder / "history.ndjson"
        self._account = FaultRunResult(options.seed, self._history, options.shape.park_seconds)
        self._began = time.monotonic()
        self._judge = LiveJudge(recorded_live=True)

    async def go(self) -> FaultRunResult:
        """Run it all, and give the account. Raises what starting raises."""
        options = self._options
        async with AsyncExitStack() as stack:
            cluster = Cluster(options.folder, options.shape)
            stack.push_async_callback(cluster.close)
            await cluster.start()
            self._tell(f"the system is up: {options.shape.brokers} broker(s), seed {options.seed}")
            file = stack.enter_context(HistoryFile(self._history))
            recorder = RunRecorder(file, self._watch)
            recorder.add(RunStarted(recorder.now, APP_ID, options.seed))
            apis = [api.address for api in cluster.apis]
            doors = RecordingClients(recorder, apis, cluster.brokers.address, cluster.topic)
            stack.push_async_callback(doors.close)
            await doors.open()
            load = ScenarioRunner(options.seed, options.rates, doors)
            topics = RecordingTopicReader(cluster.brokers.address, cluster.topic, PARTITIONS, recorder, load.saw)
            stack.push_async_callback(topics.stop)
            await topics.start()
            subscribers = self._subscribers(apis, recorder, stack)
            await load.open_shop(topics.check)
            for subscriber in subscribers:
                subscriber.start()
            await self._strike_under_load(cluster, recorder, load)
            await self._rest(cluster, topics)
            recorder.add(RunQuiesced(recorder.now))
            await read_everything(
                doors, recorder, load.orders, others=load.others, skus=edge_skus(options.rates.breadth)
            )
            self._close_account(recorder, topics, cluster, load)
        return self._account

    def _subscribers(
        self, apis: list[str], recorder: RunRecorder, stack: AsyncExitStack
    ) -> list[ReconnectingSubscriber]:
        """One of each channel at each API."""
        made = []
        for at in range(len(apis)):
            for channel in CHANNELS:
                name = f"{channel}-{at + 1}"
                made.append(ReconnectingSubscriber(name, channel, apis[at:] + apis[:at], recorder))
                stack.push_async_callback(made[-1].stop)
        return made

    async def _strike_under_load(self, cluster: Cluster, recorder: RunRecorder, load: ScenarioRunner) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        running = asyncio.create_task(load.run())
        striking = asyncio.create_task(self._strike(cluster, recorder))
        telling = asyncio.create_task(self._progress(recorder, load))
        try:
            await asyncio.wait((running, striking), timeout=self._options.seconds, return_when=asyncio.FIRST_COMPLETED)
            await poll_until(self._struck_enough, OVERTIME_SECONDS_MAX)
        finally:
            for task in (striking, telling):
                task.cancel()
            await asyncio.gather(striking, telling, return_exceptions=True)
            self._tell("healing what is left, the load ends")
            await self._heal(cluster)
            load.stop()
            await running
        if not striking.cancelled() and (error := striking.exception()) is not None:
            raise error
        self._account.load_seconds = loop.time() - began

    # Faults

    async def _struck_enough(self) -> bool:
        return len([struck for struck in self._account.struck if struck.ended]) >= self._options.strikes_min

    async def _strike(self, cluster: Cluster, recorder: RunRecorder) -> None:
        """Do the plan, until cancelled; what has begun by then is brought to its end."""
        under_way: dict[asyncio.Task[None], Fault] = {}
        try:
            await self._follow_plan(cluster, recorder, under_way)
            await asyncio.Event().wait()  # a plan without faults is over at once, and the load goes on
        finally:
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _follow_plan(
        self, cluster: Cluster, recorder: RunRecorder, under_way: dict[asyncio.Task[None], Fault]
    ) -> None:
        for strike in plan(self._options.seed, self._options.faults, self._options.pause_seconds_max):
            await asyncio.sleep(strike.pause_seconds)
            while len(under_way) >= UNDER_WAY_MAX or any(
                strike.fault.touches & one.touches for one in under_way.values()
            ):
                done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del under_way[task]
                    task.result()
            scene = FaultContext(cluster, recorder, random.Random(f"{self._options.seed}-strike-{strike.number}"))
            task = asyncio.create_task(self._do(strike, scene))
            under_way[task] = strike.fault
            if strike.waits:
                await asyncio.wait([task])
                await self._answered(recorder)

    async def _do(self, strike: ScheduledFault, scene: FaultContext) -> None:
        """One fault, noted before and after."""
        loop = asyncio.get_running_loop()
        recorder, name = scene.recorder, strike.fault.name
        struck = InjectedFault(name, loop.time())
        self._account.struck.append(struck)
        recorder.add(FaultRecord(recorder.now, name))
        try:
            async with asyncio.timeout(FAULT_SECONDS_MAX):
                struck.detail = await strike.fault.inject(scene)
        except FaultNotInjected as reason:
            struck.failed = str(reason)
        except (KafkaError, RedisError, CommandError, TimeoutError, OSError) as error:
            struck.failed = repr(error)
        struck.ended = loop.time()
        recorder.add(FaultRecord(recorder.now, name, "healed", struck.failed or struck.detail))
        took = struck.ended - struck.began
        self._tell(
            f"fault {strike.number}: {name} {struck.detail} in {took:.1f} s"
            + f" FAILED: {struck.failed}" * bool(struck.failed)
        )

    async def _answered(self, recorder: RunRecorder) -> None:
        """Wait until a write is answered again."""
        loop = asyncio.get_running_loop()
        since = loop.time()
        while loop.time() < since + ANSWERED_SECONDS_MAX:
            if recorder.answered_at and recorder.answered_at[-1] > since:
                return
            await asyncio.sleep(0.05)

    async def _heal(self, cluster: Cluster) -> None:
        """Undo whatever a fault that was cut short left behind."""
        for index in range(len(cluster.brokers)):
            cluster.brokers.send(index, signal.SIGCONT)
            with suppress(CommandError):
                if not cluster.brokers.running(index):
                    await cluster.brokers.start_one(index)
        for store in filter(None, (cluster.primary, cluster.replica)):
            store.send(signal.SIGCONT)
            if not store.running:
                await store.start()
        primary = cluster.primary
        for words in (("CONFIG", "SET", "maxmemory", "0"), ("CLIENT", "UNPAUSE")):
            await primary.command(*words)
        if await primary.role() != "master":
            await primary.command("REPLICAOF", "NO", "ONE")
        cluster.point_all()
        await cluster.restore_topics()
        for member in cluster.members:
            member.disarm()
            member.send(signal.SIGCONT)
            if member.more:
                member.more = {}
                member.send(signal.SIGTERM)
        if not cluster.shape.second_worker:
            await cluster.workers[1].stop()

    # Rest

    async def _rest(self, cluster: Cluster, topics: RecordingTopicReader) -> None:
        """Wait until nothing moves any more; what still does is noted."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._tell("coming to rest")
        await cluster.wait_ready()
        await self._quiet(cluster, topics, 0.0)
        await asyncio.sleep(max(HOLD_SECONDS_USUAL, cluster.shape.park_seconds) + LAST_SECONDS)
        await self._quiet(cluster, topics, QUIET_SECONDS)
        await topics.catch_up()
        self._account.rest_seconds = loop.time() - began

    async def _quiet(self, cluster: Cluster, topics: RecordingTopicReader, seconds: float) -> None:
        """Wait until all input is consumed and no row has come for so long."""
        loop = asyncio.get_running_loop()
        began = quiet_since = loop.time()
        rows, lags = topics.rows, {"": 1}
        while loop.time() < began + REST_SECONDS_MAX:
            topics.check()
            with suppress(KafkaError):
                lags = await cluster.uncommitted()
            if any(lags.values()) or (seconds and topics.rows != rows):
                rows, quiet_since = topics.rows, loop.time()
            elif loop.time() - quiet_since >= seconds:
                return
            await asyncio.sleep(0.3)
        self._account.unquiet = f"after {REST_SECONDS_MAX:.0f} s: uncommitted {lags}, rows {rows} to {topics.rows}"

    def _close_account(
        self, recorder: RunRecorder, topics: RecordingTopicReader, cluster: Cluster, load: ScenarioRunner
    ) -> None:
        account = self._account
        account.commands, account.rows = recorder.commands, topics.rows
        account.doors, account.kinds, account.statuses = recorder.doors, recorder.kinds, recorder.statuses
        account.answered_at = recorder.answered_at
        account.failures = [repr(failure) for failure in load.failures]
        account.ends = Counter(f"{end.name} {end.status}" for member in cluster.members for end in member.ends)

    async def _progress(self, recorder: RunRecorder, load: ScenarioRunner) -> None:
        before = 0
        while True:
            await asyncio.sleep(10)
            rate = (recorder.commands - before) / 10
            before = recorder.commands
            faults = len(self._account.struck)
            self._tell(f"{before} commands, {rate:.0f}/s, {load.under_way} stories under way, {faults} faults")

    def _watch(self, record: HistoryRecord) -> None:
        for violation in self._judge.feed(record):
            self._tell(f"VIOLATION {violation.checker}: {violation.what}")

    def _tell(self, line: str) -> None:
        self._say(f"{time.monotonic() - self._began:7.1f} s  {line}")
