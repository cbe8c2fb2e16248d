"""A flash sale against a running system: generate load, monitor, wait until quiet, read the final state.

In: `FlashSaleOptions`. Out: a run, in its file or judged; the exit status of `run`: 0 where the run is in its file or
every promise was kept, 1 where one was broken, 2 where the run is not valid or could not be done.

This process controls and monitors. Load is generated and feeds are followed in processes of their own
(`loadtest.run.load_worker`), so that no process delays the measurements of another.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError
from rich.console import Console

from stocktide.errors import StocktideError
from stocktide.loadtest.client.http import StocktideClient
from stocktide.loadtest.client.topics import TopicReader
from stocktide.loadtest.measure import processes
from stocktide.loadtest.measure.meter import Measurements
from stocktide.loadtest.measure.results import LoadTestResults
from stocktide.loadtest.oracle.history import HistoryClock, RunQuiesced, RunStarted
from stocktide.loadtest.report.formatting import requirement_of
from stocktide.loadtest.report.live import LiveView
from stocktide.loadtest.report.terminal import ProgressView, print_written, show_results, write_reports
from stocktide.loadtest.run.conclusion import results_of
from stocktide.loadtest.run.controller import LoadController
from stocktide.loadtest.run.history_merge import HistoryMerge
from stocktide.loadtest.run.monitor import RunMonitor
from stocktide.loadtest.run.options import FlashSaleOptions
from stocktide.loadtest.run.quiesce import READS_MAX, FinalStateReader, InputBacklog, wait_until_quiet
from stocktide.loadtest.run.recording import RecordingHttpClient, RequestRecorder
from stocktide.loadtest.run.run_file import RecordedRun, RunArchive
from stocktide.loadtest.run.subscribers import FULLY_RECORDED_PER_CHANNEL, LAG_SAMPLED
from stocktide.loadtest.run.warehouse import WarehouseSimulator
from stocktide.loadtest.workload.scenarios import Goods

UPDATE_SECONDS = 0.5
# The expiry step runs every second or so and publishes a row for each hold that it ends.
EXPIRY_SECONDS = 10.0


def run(options: FlashSaleOptions) -> int:
    """Run, then write the run to its file, or judge and report it; the exit status. A failure is printed."""
    import uvloop

    console = Console(stderr=True, highlight=False)
    try:
        options.check()
        if options.run_file is not None:
            uvloop.run(record_flash_sale(options, options.run_file, console))
            print_written(console, options.run_file)
            return 0
        results = uvloop.run(run_flash_sale(options, console))
        write_reports(results, options.report_html, options.report_json)
        show_results(results, Console(highlight=False))
        print_written(console, options.report_html, options.report_json)
        return results.verdict.status
    except (StocktideError, KafkaError, OSError) as error:
        console.print(f"loadtest: {error}", style="red", markup=False, soft_wrap=not console.is_terminal)
        return 2
    except KeyboardInterrupt:
        console.print("loadtest: stopped before its end: there is no verdict", soft_wrap=not console.is_terminal)
        return 130


async def run_flash_sale(options: FlashSaleOptions, console: Console) -> LoadTestResults:
    """Run and judge. Raises StocktideError, KafkaError or OSError where that cannot be done."""
    async with _recorded(options, console) as (recorded, history):
        with console.status("checking every order, SKU and channel"):
            return await asyncio.to_thread(results_of, recorded, history.records)


async def record_flash_sale(options: FlashSaleOptions, path: Path, console: Console) -> None:
    """Run, and write the run to a file. Raises as `run_flash_sale` does."""
    async with _recorded(options, console) as (recorded, history):
        await asyncio.to_thread(RunArchive(path).write, recorded, history.records())


@asynccontextmanager
async def _recorded(options: FlashSaleOptions, console: Console) -> AsyncIterator[tuple[RecordedRun, HistoryMerge]]:
    """A run and its history, whose files exist until left."""
    mark = f"lt{time.time_ns() // 1_000_000:x}"
    with console.status("reading the file") if options.file else console.status("connecting"):
        goods = await asyncio.to_thread(options.goods, mark)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stocktide-loadtest-")))
        client = await stack.enter_async_context(StocktideClient(options.api, READS_MAX))
        await client.check_reachable()
        sale = FlashSale(options, goods, folder, client, console)
        stack.callback(sale.history.close)
        recorded = await sale.run(stack)
        sale.history.close()
        # The subscribers are still connected: when they end they add to their history.
        yield recorded, sale.history


class FlashSale:
    """One run and its parts."""

    def __init__(
        self, options: FlashSaleOptions, goods: Goods, folder: Path, client: StocktideClient, console: Console
    ) -> None:
        self._options = options
        self._goods = goods
        self._client = client
        self._console = console
        self._clock = clock = HistoryClock()
        self._units = options.hot_units()
        self.history = HistoryMerge(folder, clock)
        self._http = RecordingHttpClient(options.api, RequestRecorder(clock, 0, self.history.add))
        self._warehouses = WarehouseSimulator(goods, self._units, options.seconds, options.seed, self._http)
        self._monitor = RunMonitor(goods.mark, goods.hot_skus, self._warehouses.on_stock, clock, self.history.add)
        self._controller = LoadController(options, goods, folder, self.history, clock.offset)
        self._notes: list[str] = [f"the names of this run's SKUs and orders begin with {goods.mark}-"]

    async def run(self, stack: AsyncExitStack) -> RecordedRun:
        """From the opening stock to the final state."""
        options, controller = self._options, self._controller
        reader = TopicReader(options.kafka, options.app_id, self._monitor.handlers(), **options.security)
        stack.push_async_callback(reader.stop)
        await stack.enter_async_context(self._http)
        backlog = await stack.enter_async_context(InputBacklog(options.kafka, options.app_id, **options.security))
        with self._console.status("reading the topics, then setting policies and stock"):
            await reader.start()
            await reader.catch_up()
            self.history.add(RunStarted(self._clock.now(), options.app_id, options.seed))
            await self._warehouses.open()
        with self._console.status("starting the load generator"):
            await controller.start(stack)
        sampler = processes.ProcessSampler(controller.pids(), lambda: time.monotonic() - controller.zero_at)
        started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        machine = processes.machine()
        self._notes += processes.busy_machine_notes(machine)
        async with self._monitoring(reader), _running(sampler.run()):
            async with _running(self._warehouses.trade()):
                parts, load_seconds = await controller.push()
            load_ended_at = time.monotonic()
            with self._console.status("the load is over: waiting until every hold has ended and nothing moves"):
                unquiet = await self._wait_until_quiet(reader, backlog, load_ended_at)
                parts += await controller.record_subscribers(self._monitor.versions)
        self.history.add(RunQuiesced(self._clock.now()))
        with self._console.status("reading every order, SKU and channel"):
            await self._read_final_state()
        self._add_notes()
        return RecordedRun(
            settings=options.settings(),
            machine=machine,
            started_at=started_at,
            load_seconds=load_seconds,
            parts=(*parts, Measurements([], {**self._warehouses.totals, **self._monitor.totals}, {})),
            unquiet=unquiet,
            notes=(*controller.notes, *self._notes),
            hot=self._monitor.hot(self._units, int((self._clock.offset + controller.zero_at) * 1000)),
            processes=sampler.uses(),
            ladder=tuple(controller.ladder),
        )

    @asynccontextmanager
    async def _monitoring(self, reader: TopicReader) -> AsyncIterator[None]:
        """Merge the workers' histories and refresh the view, until left."""
        with LiveView(self._console if self._options.live else Console(quiet=True, force_terminal=False)) as live:
            view = ProgressView(self._options, self._goods, self._warehouses, self._monitor, live)
            async with _running(self._update_regularly(view, reader)):
                yield
        self._update()

    async def _update_regularly(self, view: ProgressView, reader: TopicReader) -> None:
        while True:
            await asyncio.sleep(UPDATE_SECONDS)
            reader.check()
            self._update()
            if self._controller.zero_at:
                view.update(time.monotonic() - self._controller.zero_at, *self._controller.reports())

    def _update(self) -> None:
        self._controller.read_histories()
        self.history.emit(self._monitor.on_record)

    async def _wait_until_quiet(self, reader: TopicReader, backlog: InputBacklog, load_ended_at: float) -> str:
        def received() -> int:
            _, subscribers = self._controller.reports()
            return self._monitor.rows + (subscribers.totals.get("updates", 0) if subscribers is not None else 0)

        holds_end_at = load_ended_at + self._options.hold_seconds + EXPIRY_SECONDS
        unquiet = await wait_until_quiet(backlog, received, lambda: len(self._monitor.held), holds_end_at)
        await reader.catch_up()
        return unquiet

    async def _read_final_state(self) -> None:
        goods = self._goods
        reader = FinalStateReader(self._client, self._clock, self.history.add, f"{goods.mark}-")
        policies = [(channel, sku) for sku in goods.hot_skus for channel, _ in self._warehouses.policies()]
        await reader.read(
            goods.channels, goods.all_skus, list(self._monitor.orders), self._warehouses.movements, policies
        )

    def _add_notes(self) -> None:
        if violations := self._monitor.violations:
            first = violations[0]
            self._notes.append(
                f"a promise was broken while the run went on: {requirement_of(first.checker)}; {first.what}"
            )
        if self._options.subscribers:
            self._notes.append(
                f"{FULLY_RECORDED_PER_CHANNEL} subscribers of each channel recorded every update; the others checked"
                f" versions, timed one update in {LAG_SAMPLED}, and reported at the end what they had received"
            )
            self._notes.append(
                "lag is the time from an update's as_of (the ledger's clock) to its receipt (this machine's clock)"
            )


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` beside the body and cancel it afterwards. A failure of either is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            try:
                yield
            finally:
                task.cancel()
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
