"""A flash sale against a running system: push, look on, let it come to rest, judge.

In: `FlashSaleOptions`. Out: the exit status of `run`: 0 where every promise was kept, 1 where one was broken, 2 where
the run is not valid or could not be done; and its `Results`, as JSON and as a page.

This process leads and looks on; whoever pushes or subscribes is a process of its own (`loadtest.run.load_worker`), so
that nobody's work delays another's measurement.
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

from stocktide.loadtest.client.http import ApiError, StocktideClient
from stocktide.loadtest.client.topics import TopicReader, TopicReaderError
from stocktide.loadtest.measure import processes, results
from stocktide.loadtest.measure.meter import MergedMeasurements
from stocktide.loadtest.oracle.channels import FEED_LAG_MS_MAX
from stocktide.loadtest.oracle.history import HistoryClock, RunQuiesced, RunStarted
from stocktide.loadtest.oracle.judge import judge
from stocktide.loadtest.report.terminal import ProgressView
from stocktide.loadtest.report.verdict_text import holds
from stocktide.loadtest.run import load_worker_process
from stocktide.loadtest.run.conclusion import conclude
from stocktide.loadtest.run.controller import LoadController
from stocktide.loadtest.run.history_merge import HistoryMerge
from stocktide.loadtest.run.monitor import RunMonitor
from stocktide.loadtest.run.options import FlashSaleError, FlashSaleOptions
from stocktide.loadtest.run.quiesce import READS_MAX, FinalStateReader, InputBacklog, wait_until_quiet
from stocktide.loadtest.run.recording import RecordingHttpClient, RequestRecorder
from stocktide.loadtest.run.subscribers import FULLY_RECORDED_PER_CHANNEL, LAG_SAMPLED
from stocktide.loadtest.run.warehouse import WarehouseSimulator, hot_policies
from stocktide.loadtest.workload.retail import RetailError
from stocktide.loadtest.workload.scenarios import Goods

TURN_SECONDS = 0.5
# Who connects anew may be told of a state that is so many times as old as the oldest update that anybody saw: an
# overloaded system is slow, which is measured, and breaks no promise by it.
BEHIND_LAGS = 2
# After their time holds are ended by the expiry step, which has its turn every second or so, and told by a row.
EXPIRY_SECONDS = 10.0


def run(options: FlashSaleOptions) -> int:
    """Do it all and report; gives the exit status. Every expected failure is one sentence on standard error."""
    import uvloop

    console = Console(stderr=True, highlight=False)
    try:
        options.check()
        found = uvloop.run(run_flash_sale(options, console))
        _write(options, found)
    except (
        FlashSaleError,
        RetailError,
        TopicReaderError,
        ApiError,
        KafkaError,
        load_worker_process.LoadWorkerError,
        OSError,
    ) as error:
        console.print(f"loadtest: {error}", style="red", markup=False, soft_wrap=not console.is_terminal)
        return 2
    except KeyboardInterrupt:
        console.print("loadtest: stopped before its end: there is no verdict", soft_wrap=not console.is_terminal)
        return 130
    ProgressView.show(found, Console(highlight=False))
    for path in (options.report_html, options.report_json):
        if path is not None:
            console.print(f"written: {path}", markup=False, soft_wrap=not console.is_terminal)
    return 1 if not found.verdict.kept else 0 if found.verdict.valid else 2


def _write(options: FlashSaleOptions, found: results.LoadTestResults) -> None:
    if options.report_json is not None:
        options.report_json.write_bytes(results.encode(found))
    if options.report_html is not None:
        from stocktide.loadtest.report.page import write_page

        write_page(found, options.report_html)


async def run_flash_sale(options: FlashSaleOptions, console: Console) -> results.LoadTestResults:
    """Do it all; what was found.

    Raises FlashSaleError, RetailError, TopicReaderError, ApiError, TesterError, KafkaError or OSError where it cannot
    be done.
    """
    mark = f"lt{time.time_ns() // 1_000_000:x}"
    with console.status("reading the file") if options.file else console.status("connecting"):
        goods = await asyncio.to_thread(options.goods, mark)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stocktide-loadtest-")))
        client = await stack.enter_async_context(StocktideClient(options.api, READS_MAX))
        await client.reach()
        flash = FlashSale(options, goods, folder, client, console)
        stack.callback(flash.gathering.close)
        return await flash.run(stack)


class FlashSale:
    """One run, connected step by step."""

    def __init__(
        self, options: FlashSaleOptions, goods: Goods, folder: Path, client: StocktideClient, console: Console
    ) -> None:
        self._options = options
        self._goods = goods
        self._folder = folder
        self._client = client
        self._console = console
        self._clock = HistoryClock()
        self._units = options.hot_units()
        self.gathering = HistoryMerge(folder, self._clock)
        self._recorder = RequestRecorder(self._clock, 0, self.gathering.add)
        self._http = RecordingHttpClient(options.api, self._recorder)
        self._floor = WarehouseSimulator(goods, self._units, options.seed, self._http)
        self._onlooker = RunMonitor(mark := goods.mark, goods.hot_skus, self._floor, self._clock, self.gathering.add)
        self._lead = LoadController(options, goods, folder, self.gathering, self._clock.offset)
        self._notes: list[str] = [f"the names of this run's SKUs and orders begin with {mark}-"]

    async def run(self, stack: AsyncExitStack) -> results.LoadTestResults:
        """From the opening to the verdict."""
        options = self._options
        feeds = TopicReader(options.kafka, options.app_id, self._onlooker.takers(), **options.security)
        stack.push_async_callback(feeds.stop)
        await stack.enter_async_context(self._http)
        inputs = await stack.enter_async_context(InputBacklog(options.kafka, options.app_id, **options.security))
        with self._console.status("reading the topics, then setting policies and stock"):
            await feeds.start()
            await feeds.catch_up()
            self.gathering.add(RunStarted(self._clock.now(), options.app_id, options.seed))
            await self._floor.open()
        with self._console.status("starting the load generator"):
            await self._lead.start(stack)
        sampler = processes.ProcessSampler(self._lead.pids(), lambda: time.monotonic() - self._lead.zero_at)
        started_at = processes.started_at()
        machine = processes.machine()
        self._notes += processes.busy_machine_notes(machine)
        async with self._looking_on(feeds), _beside(sampler.run()):
            async with _beside(self._floor.trade()):
                parts, load_seconds = await self._lead.push()
            pushed_at = time.monotonic()
            with self._console.status("the load is over: waiting until every hold has ended and nothing moves"):
                unquiet = await self._rest(feeds, inputs, pushed_at)
                parts += await self._lead.tell(self._onlooker.versions)
        self.gathering.add(RunQuiesced(self._clock.now()))
        with self._console.status("reading and checking every order, SKU and channel"):
            await self._read()
            self.gathering.close()
            whole = MergedMeasurements(parts)
            behind_ms = max(FEED_LAG_MS_MAX, int(BEHIND_LAGS * whole.latencies("lag").max))
            judged = await asyncio.to_thread(judge, self.gathering.all, behind_ms=behind_ms)
        if options.shape == "file":
            # A file may end before the time does.
            load_seconds = min(load_seconds, max((at.at + 1 for at in whole.moments() if at.scheduled), default=0))
        self._note_what_was_seen()
        verdict = conclude(judged, whole, sampler.uses(), options.goal_ms, unquiet, (*self._lead.notes, *self._notes))
        return results.LoadTestResults(
            settings=options.told(),
            machine=machine,
            started_at=started_at,
            load_seconds=round(load_seconds, 3),
            verdict=verdict,
            totals={**whole.totals, **{f"refused.{name}": count for name, count in whole.refusals.most_common()}},
            accepted_ms=whole.latencies("accepted"),
            refused_ms=whole.latencies("refused"),
            lag_ms=whole.latencies("lag"),
            moments=whole.moments(),
            hot=self._onlooker.hot(self._units, int((self._clock.offset + self._lead.zero_at) * 1000)),
            processes=sampler.uses(),
            errors=dict(whole.errors.most_common()),
            ladder=tuple(self._lead.ladder),
        )

    # Meanwhile

    @asynccontextmanager
    async def _looking_on(self, feeds: TopicReader) -> AsyncIterator[None]:
        """Gather the testers' records and show how it goes, until left."""
        view = ProgressView(self._options, self._goods, self._floor, self._onlooker, self._console)
        with view:
            async with _beside(self._turns(view, feeds)):
                yield
        self._turn()

    async def _turns(self, view: ProgressView, feeds: TopicReader) -> None:
        while True:
            await asyncio.sleep(TURN_SECONDS)
            feeds.check()
            self._turn()
            if self._lead.zero_at:
                view.update(time.monotonic() - self._lead.zero_at, *self._lead.reports())

    def _turn(self) -> None:
        self._lead.take_in()
        self.gathering.turn(self._onlooker.hear)

    # The end

    async def _rest(self, feeds: TopicReader, inputs: InputBacklog, pushed_at: float) -> str:
        def moved() -> int:
            _, crowd = self._lead.reports()
            return self._onlooker.rows + (crowd.totals.get("updates", 0) if crowd is not None else 0)

        holds_end_at = pushed_at + self._options.hold_seconds + EXPIRY_SECONDS
        unquiet = await wait_until_quiet(inputs, moved, lambda: len(self._onlooker.held), holds_end_at)
        await feeds.catch_up()
        return unquiet

    async def _read(self) -> None:
        reader = FinalStateReader(self._client, self._goods, self._clock, self.gathering.add)
        policies = [
            (channel, sku)
            for sku in self._goods.hot_skus
            for channel, _ in hot_policies(self._goods.channels, self._units)
        ]
        await reader.read(list(self._onlooker.orders), self._floor.movements, policies)

    def _note_what_was_seen(self) -> None:
        if seen := self._onlooker.violations:
            promise, what = holds(seen[0].checker), seen[0].what
            self._notes.append(f"a promise was broken while the run went on: {promise}; {what}")
        if self._options.subscribers:
            self._notes.append(
                f"{FULLY_RECORDED_PER_CHANNEL} subscribers of each channel recorded every update; the others checked"
                f" versions, timed one update in {LAG_SAMPLED}, and reported at the end what they had received"
            )
            self._notes.append(
                "lag is the time from an update's as_of (the ledger's clock) to its receipt (this machine's clock)"
            )


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do work beside what is inside; it is ended with it. What breaks either is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            try:
                yield
            finally:
                task.cancel()
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
