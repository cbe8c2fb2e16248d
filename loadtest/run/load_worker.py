"""A load worker: one process of a load test, which generates load or runs subscribers.

In: an `Assignment` and `LoadCommand`s, a line of JSON each, on standard input. Out: `LoadWorkerReport`s on standard
output, the history in its file, its measurements at the end. It exits after `end`, or when its input ends.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from itertools import accumulate, count, islice, tee
from pathlib import Path
from typing import Any

import msgspec
from aiokafka.errors import KafkaError

from stocktide.errors import StocktideError
from stocktide.loadtest.client.events import Event
from stocktide.loadtest.measure.meter import LoadMeter
from stocktide.loadtest.oracle.history import HistoryClock, HistoryFile
from stocktide.loadtest.run.load_generator import (
    Arrival,
    HttpOrderClient,
    KafkaOrderClient,
    LoadGenerator,
    OrderClient,
)
from stocktide.loadtest.run.load_worker_process import Assignment, LoadCommand, LoadWorkerReport
from stocktide.loadtest.run.recording import RequestRecorder
from stocktide.loadtest.run.subscribers import SubscriberPool
from stocktide.loadtest.workload import retail, shapes
from stocktide.loadtest.workload.retail import invoice_orders
from stocktide.loadtest.workload.scenarios import Workload

# The refresh rate of the live view.
REPORT_SECONDS = 0.5
# The file's dates have no seconds.
FILE_SPREAD_SECONDS = 60.0
LINE_BYTES_MAX = 1024 * 1024
_COMMAND = msgspec.json.Decoder(LoadCommand)


def run(security: Mapping[str, Any]) -> int:
    """Carry out commands until `end`; the exit status."""
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
        worker = LoadWorker(assignment, history, security)
        try:
            await worker.serve(lines)
        except (StocktideError, KafkaError, OSError) as error:
            worker.report(failure=f"{type(error).__name__}: {error}")


class LoadWorker:
    """Carries out commands, one after the other, and reports."""

    def __init__(self, assignment: Assignment, history: HistoryFile, security: Mapping[str, Any]) -> None:
        self._assignment = assignment
        self._history = history
        self._security = security
        self._clock = HistoryClock(assignment.clock_offset)
        self._recorder = RequestRecorder(self._clock, assignment.index + 1, history.add)
        self._meter = LoadMeter()
        self._zero_at: float | None = None
        self._generator: LoadGenerator | None = None
        self._pool: SubscriberPool | None = None

    async def serve(self, lines: asyncio.StreamReader) -> None:
        """Connect, then carry out the commands in `lines`."""
        async with AsyncExitStack() as stack:
            if self._assignment.role == "subscribe":
                await self._start_subscribers(stack)
            else:
                await self._connect_clients(stack)
            self.report(ready=True)
            reporting = asyncio.create_task(self._report_regularly())
            try:
                await self._carry_out(lines)
            finally:
                reporting.cancel()
                await asyncio.gather(reporting, return_exceptions=True)

    def report(self, **more: Any) -> None:
        """Report, after every record so far is in the file."""
        at = self._clock.now()
        self._history.flush()
        waiting = self._generator.waiting if self._generator else 0
        recent = None if self._zero_at is None else self._meter.recent(time.monotonic() - self._zero_at)
        report = LoadWorkerReport(at, totals=dict(self._meter.totals), in_flight=waiting, recent=recent, **more)
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()

    async def _carry_out(self, lines: asyncio.StreamReader) -> None:
        """One command after the other. At `end`, or at the end of the input, what is under way is cancelled."""
        task: asyncio.Task[None] | None = None
        try:
            while (line := await lines.readline()) and (command := _COMMAND.decode(line)).do != "end":
                if task is not None:
                    await task
                task = asyncio.create_task(self._do(command))
                task.add_done_callback(self._on_done)
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.report(failure=f"{type(error).__name__}: {error}")

    async def _start_subscribers(self, stack: AsyncExitStack) -> None:
        given = self._assignment
        goods = given.goods
        self._pool = SubscriberPool(
            given.api, goods.channels, given.subscribers, goods.mark, self._recorder, given.sockets
        )
        self._meter = self._pool.meter
        await stack.enter_async_context(self._pool)

    async def _connect_clients(self, stack: AsyncExitStack) -> None:
        given = self._assignment
        clients: list[OrderClient] = []
        if given.door in ("http", "both"):
            clients.append(await stack.enter_async_context(HttpOrderClient(given.api, self._recorder)))
        if given.door in ("kafka", "both"):
            mark = given.goods.mark
            kafka = KafkaOrderClient(given.kafka, given.app_id, mark, self._recorder, **self._security)
            clients.append(await stack.enter_async_context(kafka))
        self._generator = LoadGenerator(tuple(clients), clients[0], self._meter)

    async def _do(self, command: LoadCommand) -> None:
        if command.do == "record":
            assert self._pool is not None
            await self._pool.settle(command.versions)
            for subscriber in self._pool.subscribers:
                subscriber.record_held()
            self.report(done=True, part=self._meter.part())
            return
        self._zero_at = command.zero_at
        if self._pool is not None:
            self._pool.zero_at = command.zero_at
            return
        assert self._generator is not None
        await self._generator.push(self._arrivals(command), command.zero_at)
        self.report(done=True, part=self._meter.part())

    def _arrivals(self, command: LoadCommand) -> Iterator[Arrival]:
        """This process's share of a stretch: every `processes`-th arrival."""
        given = self._assignment
        workload = Workload(given.goods, given.seed)
        numbered: Iterator[tuple[int, tuple[float, list[Event] | None]]]
        if given.file is not None:
            numbered = zip(count(command.first), _file_orders(given), strict=False)
        else:
            seed = f"{given.seed}-{command.stretch}"
            times = shapes.arrivals(command.shape, command.seconds, command.peak, seed)
            numbered = ((command.first + number, (at, None)) for number, at in enumerate(times))
        for number, (at, lines) in islice(numbered, given.index, None, given.processes):
            if at >= command.seconds:
                return
            scenario = workload.scenario(number) if lines is None else workload.scenario_of(number, lines)
            yield Arrival(command.begins_at + at, scenario)

    async def _report_regularly(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            if self._pool is not None:
                self._pool.check()
            self.report()


def _file_orders(given: Assignment) -> Iterator[tuple[float, list[Event]]]:
    """The time of each order of a file, and its lines under this run's SKUs."""
    assert given.file is not None
    placed, timed = tee(
        (invoice.at.timestamp(), event["lines"])
        for invoice in retail.read(Path(given.file), given.form)
        for event in invoice_orders(invoice)
    )
    # A few invoices are out of order in the file.
    times = accumulate((at for at, _ in timed), max)
    sped_up = shapes.sped_up(times, given.speed, FILE_SPREAD_SECONDS, given.seed)
    for at, (_, lines) in zip(sped_up, placed, strict=True):
        yield at, [{**line, "sku": f"{given.goods.mark}-{line['sku']}"} for line in lines]
