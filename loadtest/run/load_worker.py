"""One process of a load test: it pushes, or it subscribes.

In: an `Assignment` and `LoadCommand`s, a line of JSON each, on standard input. Out: `LoadWorkerReport`s on standard
output, the history in its file, and when it is done what it has measured. It ends when it is told to, or its input
ends.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from itertools import count, islice
from pathlib import Path
from typing import Any

import msgspec
from aiokafka.errors import KafkaError

from stocktide.loadtest.client import events
from stocktide.loadtest.client.topics import TopicReaderError
from stocktide.loadtest.measure.meter import LoadMeter
from stocktide.loadtest.oracle.history import HistoryClock, HistoryFile
from stocktide.loadtest.run.load_generator import Arrival, LoadGenerator
from stocktide.loadtest.run.order_clients import HttpOrderClient, KafkaOrderClient
from stocktide.loadtest.run.process_messages import Assignment, LoadCommand, LoadWorkerReport
from stocktide.loadtest.run.recording import RecordingHttpClient, RecordingKafkaClient, RequestRecorder
from stocktide.loadtest.run.subscribers import SubscriberPool
from stocktide.loadtest.workload import retail, shapes
from stocktide.loadtest.workload.scenarios import Workload

# How often a tester says how it stands: the pace of the view.
REPORT_SECONDS = 0.5
# The file's dates tell minutes only.
FILE_SPREAD_SECONDS = 60.0
LINE_BYTES_MAX = 1024 * 1024


def run(security: Mapping[str, Any]) -> int:
    """Serve until told to end; the exit status."""
    import uvloop

    try:
        uvloop.run(_run(security))
    except KeyboardInterrupt:
        return 130
    return 0


async def _run(security: Mapping[str, Any]) -> None:
    lines = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    if not (line := await lines.readline()):
        return
    assignment = msgspec.json.decode(line, type=Assignment)
    with HistoryFile(Path(assignment.history)) as history:
        tester = LoadWorker(assignment, history, security)
        try:
            await tester.serve(lines)
        except (TopicReaderError, KafkaError, OSError, retail.RetailError) as error:
            tester.say(failure=f"{type(error).__name__}: {error}")


class LoadWorker:
    """Does what it is ordered, and says so."""

    def __init__(self, assignment: Assignment, history: HistoryFile, security: Mapping[str, Any]) -> None:
        self._assignment = assignment
        self._history = history
        self._security = security
        self._clock = HistoryClock(assignment.clock_offset)
        self._recorder = RequestRecorder(self._clock, assignment.index + 1, history.add)
        self._meter = LoadMeter()
        self._zero_at: float | None = None
        self._pusher: LoadGenerator | None = None
        self._crowd: SubscriberPool | None = None

    async def serve(self, lines: asyncio.StreamReader) -> None:
        """Connect, and do what comes."""
        async with AsyncExitStack() as stack:
            if self._assignment.role == "subscribe":
                await self._subscribe(stack)
            else:
                await self._open_doors(stack)
            self.say(ready=True)
            telling = asyncio.create_task(self._tell_regularly())
            try:
                await self._obey(lines)
            finally:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)

    async def _obey(self, lines: asyncio.StreamReader) -> None:
        """Do one thing after the other, until told to end or nobody leads any more: then what is under way is left."""
        doing: asyncio.Task[None] | None = None
        try:
            while (line := await lines.readline()) and (
                order := msgspec.json.decode(line, type=LoadCommand)
            ).do != "end":
                if doing is not None:
                    await doing
                doing = asyncio.create_task(self._do(order))
                doing.add_done_callback(self._ended)
        finally:
            if doing is not None:
                doing.cancel()
                await asyncio.gather(doing, return_exceptions=True)

    def _ended(self, doing: asyncio.Task[None]) -> None:
        if not doing.cancelled() and (error := doing.exception()) is not None:
            self.say(failure=f"{type(error).__name__}: {error}")

    def say(self, **more: Any) -> None:
        """Report; what was known until now is in the file before."""
        at = self._clock.now()
        self._history.flush()
        waiting = self._pusher.waiting if self._pusher else 0
        recent = None if self._zero_at is None else self._meter.recent(time.monotonic() - self._zero_at)
        report = LoadWorkerReport(at, totals=dict(self._meter.totals), in_flight=waiting, recent=recent, **more)
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()

    async def _subscribe(self, stack: AsyncExitStack) -> None:
        given = self._assignment
        goods = given.goods
        self._crowd = SubscriberPool(given.api, goods.channels, given.subscribers, goods.mark, self._recorder)
        self._meter = self._crowd.meter
        await stack.enter_async_context(self._crowd)

    async def _open_doors(self, stack: AsyncExitStack) -> None:
        given = self._assignment
        doors: list[HttpOrderClient | KafkaOrderClient] = []
        if given.door in ("http", "both"):
            doors.append(
                HttpOrderClient(await stack.enter_async_context(RecordingHttpClient(given.api, self._recorder)))
            )
        if given.door in ("kafka", "both"):
            kafka = await stack.enter_async_context(
                RecordingKafkaClient(given.kafka, given.app_id, self._recorder, **self._security)
            )
            by_kafka = KafkaOrderClient(kafka, given.goods.mark, given.kafka, given.app_id, **self._security)
            stack.push_async_callback(by_kafka.stop)
            await by_kafka.start()
            doors.append(by_kafka)
        self._pusher = LoadGenerator(tuple(doors), doors[0], self._meter)

    async def _do(self, order: LoadCommand) -> None:
        if order.do == "tell":
            assert self._crowd is not None
            await self._crowd.settle(order.versions)
            for follower in self._crowd.subscribers:
                follower.tell()
            self.say(done=True, part=self._meter.part())
            return
        self._zero_at = order.zero_at
        if self._crowd is not None:
            self._crowd.zero_at = order.zero_at
            return
        assert self._pusher is not None
        await self._pusher.push(self._arrivals(order), order.zero_at)
        self.say(done=True, part=self._meter.part())

    def _arrivals(self, order: LoadCommand) -> Iterator[Arrival]:
        """This process's share of a stretch: every `processes`-th arrival."""
        given = self._assignment
        work = Workload(given.goods, given.seed)
        mine = slice(given.index, None, given.processes)
        numbered: Iterator[tuple[int, tuple[float, list[events.Event] | None]]]
        if given.file is not None:
            numbered = zip(count(order.first), _of_file(given), strict=False)
        else:
            seed = f"{given.seed}-{order.stretch}"
            moments = shapes.arrivals(order.shape, order.seconds, order.peak, seed)
            numbered = ((order.first + number, (at, None)) for number, at in enumerate(moments))
        for number, (at, lines) in islice(numbered, mine.start, None, mine.step):
            if at >= order.seconds:
                return
            scenario = work.scenario(number) if lines is None else work.scenario_of(number, lines)
            yield Arrival(order.begins_at + at, scenario)

    async def _tell_regularly(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            if self._crowd is not None:
                self._crowd.check()
            self.say()


def _of_file(given: Assignment) -> Iterator[tuple[float, list[events.Event]]]:
    """When the orders of a file come, and their lines, under this run's names."""
    assert given.file is not None
    placed = (
        (invoice.at.timestamp(), event["lines"])
        for invoice in retail.read(Path(given.file), given.form)
        for event in events.orders_of(invoice)
    )
    ours: dict[int, list[events.Event]] = {}

    def moments() -> Iterator[float]:
        last = 0.0
        for number, (at, lines) in enumerate(placed):
            ours[number] = [{**line, "sku": f"{given.goods.mark}-{line['sku']}"} for line in lines]
            # A few invoices stand out of order in the file.
            last = max(last, at)
            yield last

    for number, at in enumerate(shapes.sped_up(moments(), given.speed, FILE_SPREAD_SECONDS, given.seed)):
        yield at, ours.pop(number)
