"""The replay of the Online Retail file against a running system, with a check of every number afterwards.

In: `ReplayOptions`. Out: the exit status of `run`: 0 where everything is as expected, 1 where a number differs or an
outcome is missing, 2 where the replay could not be done.

Events are sent through an `EventSink`; a `TopicReader` reads the public topics; a `StockModel` folds their rows;
`find_differences` compares the fold with the API.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stocktide.client.http import REQUESTS_MAX
from stocktide.errors import StocktideError
from stocktide.loadtest.client.contract import DeadLetterView, MovementView, OrderView
from stocktide.loadtest.client.http import StocktideClient
from stocktide.loadtest.client.topics import TopicReader, decoding_handler
from stocktide.loadtest.replay.event_sinks import EventSink, HttpEventSink, KafkaEventSink
from stocktide.loadtest.replay.outcomes import OutcomeTracker
from stocktide.loadtest.replay.report import ReplayReport
from stocktide.loadtest.replay.stock_model import StockModel, find_differences
from stocktide.loadtest.workload import retail
from stocktide.loadtest.workload.retail import invoice_movements, invoice_orders, opening_receipts
from stocktide.loadtest.workload.retail_dates import DateOrder
from stocktide.loadtest.workload.retail_text import check_encoding

# Orders without an outcome: enough to keep every stage busy; more would only wait in Kafka.
ORDERS_OPEN_MAX = 5_000
# Without any outcome for so long, the replay stops waiting: a killed worker restarts and takes over sooner.
STALL_SECONDS_MAX = 120.0
# The interval of checks, and of the progress bar.
POLL_SECONDS = 0.2
QUANTITY_MAX = retail.QUANTITY_MAX


class ReplayError(StocktideError):
    """The replay cannot be done; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """The options of a replay.

    `opening`: units of every SKU to receive first, None for none. `speed`: a multiple of the real time of the file's
    dates, None for as fast as possible. `door`: the way in for orders. `dates`, `encoding`: the file's format. `until`:
    the last step of an order. `security`: options of an aiokafka client.
    """

    file: Path
    opening: int | None = None
    speed: float | None = None
    door: Literal["kafka", "http"] = "kafka"
    api: str = "http://127.0.0.1:8080"
    kafka: str | None = "127.0.0.1:9092"
    app_id: str = "stocktide"
    report: Path | None = None
    dates: DateOrder = "iso"
    encoding: str = "utf-8"
    until: Literal["paid", "shipped"] = "paid"
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def check(self) -> None:
        """Raise ReplayError or RetailError where an option cannot be used."""
        if self.kafka is None:
            raise ReplayError("the replay follows topics by either door: it needs Kafka's HOST:PORT")
        if self.opening is not None and not 1 <= self.opening <= QUANTITY_MAX:
            raise ReplayError(f"an opening of {self.opening} units: from 1 to {QUANTITY_MAX}")
        if self.speed is not None and not self.speed > 0:
            raise ReplayError(f"a speed of {self.speed}: more than 0, or max")
        check_encoding(self.encoding)
        if self.report is not None and not self.report.absolute().parent.is_dir():
            raise ReplayError(f"the report cannot be written: there is no folder {self.report.parent}")

    @property
    def form(self) -> retail.FileFormat:
        """The format of the file."""
        return retail.FileFormat(self.dates, self.encoding)


def run(options: ReplayOptions) -> int:
    """Replay and print the report; the exit status. An expected failure is printed as one sentence."""
    console = Console(stderr=True, highlight=False)
    try:
        options.check()
        report = asyncio.run(_replay(options, console))
        if options.report is not None:
            options.report.write_bytes(orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2) + b"\n")
    except (StocktideError, OSError) as error:
        console.print(f"replay: {error}", style="red", markup=False, soft_wrap=not console.is_terminal)
        return 2
    except KeyboardInterrupt:
        console.print("replay: stopped before its end; run it again to go on", soft_wrap=not console.is_terminal)
        return 130
    report.show(Console(highlight=False))
    return 0 if report.ok else 1


async def _replay(options: ReplayOptions, console: Console) -> ReplayReport:
    with console.status(f"reading {options.file}"):
        survey = await asyncio.to_thread(retail.survey, options.file, options.form)
    outcomes = OutcomeTracker(StockModel(), ships=options.until == "shipped")
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(StocktideClient(options.api, REQUESTS_MAX))
        await client.check_reachable()
        assert options.kafka is not None
        reader = TopicReader(
            options.kafka,
            options.app_id,
            {
                "reservations": decoding_handler(OrderView, outcomes.on_order),
                "adjustments": decoding_handler(MovementView, outcomes.on_movement),
                "dead-letters": decoding_handler(DeadLetterView, outcomes.on_dead_letter),
            },
            **options.security,
        )
        stack.push_async_callback(reader.stop)
        await reader.start()
        sink: EventSink = (
            HttpEventSink(client)
            if options.door == "http"
            else KafkaEventSink(options.kafka, options.app_id, **options.security)
        )
        await stack.enter_async_context(sink)
        with console.status("reading the topics"):
            await reader.catch_up()
        outcomes.begin()
        return await FileReplay(options, survey, outcomes, reader, sink, client, console).run()


class FileReplay:
    """One replay and its parts."""

    def __init__(
        self,
        options: ReplayOptions,
        survey: retail.FileSurvey,
        outcomes: OutcomeTracker,
        reader: TopicReader,
        sink: EventSink,
        client: StocktideClient,
        console: Console,
    ) -> None:
        self._options = options
        self._survey = survey
        self._outcomes = outcomes
        self._reader = reader
        self._sink = sink
        self._client = client
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("orders", total=survey.orders, rate="")
        self._shipping: asyncio.Task[None] | None = None
        self._report = ReplayReport(options.file.name, options.door, options.until, options.opening, rows=survey.rows)
        self._report.skipped = dict(survey.skipped.most_common())
        self._report.ragged_rows, self._report.ragged_first = survey.ragged.rows, survey.ragged.first
        if survey.first_at is not None and survey.last_at is not None:
            self._report.first_at, self._report.last_at = survey.first_at.isoformat(), survey.last_at.isoformat()

    async def run(self) -> ReplayReport:
        """Receive the opening stock, send the invoices, check."""
        if self._options.opening is not None and not await self._open(self._options.opening):
            self._report.stopped = "the opening stock was not answered, so no order was sent: is a worker running?"
            return self._finish()
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        self._shipping = asyncio.create_task(self._ship())
        try:
            with self._progress:
                await self._send()
                await self._wait_for_outcomes(0)
        finally:
            self._shipping.cancel()
            await asyncio.gather(self._shipping, return_exceptions=True)
        self._report.seconds = loop.time() - started_at
        with self._console.status("comparing every SKU with the API"):
            await self._check()
        return self._finish()

    async def _open(self, units: int) -> bool:
        """Receive `units` of every SKU; False where an outcome did not come in time."""
        at = self._survey.first_at
        if at is None:
            return True
        with self._console.status(f"receiving {units:,} of each of {len(self._survey.skus):,} SKUs"):
            for receipt in opening_receipts(tuple(self._survey.skus), units, at):
                self._outcomes.sent_movement(receipt)
                await self._sink.movement(receipt)
            await self._wait_for_outcomes(0)
        return not self._outcomes.movements_waiting()

    async def _send(self) -> None:
        report = self._report
        pacer = _Pacer(self._options.speed)
        for invoice in retail.read(self._options.file, self._options.form):
            await pacer.wait(invoice.at.timestamp())
            report.invoices += 1
            for placed in invoice_orders(invoice):
                if self._outcomes.waiting() >= ORDERS_OPEN_MAX:
                    await self._wait_for_outcomes(ORDERS_OPEN_MAX - 1)
                self._outcomes.sent_order(placed)
                await self._sink.order(placed)
                report.orders += 1
                report.lines += len(placed["lines"])
            report.units += sum(item.quantity for item in invoice.ordered)
            for movement in invoice_movements(invoice):
                self._outcomes.sent_movement(movement)
                await self._sink.movement(movement)
            self._advance()

    async def _ship(self) -> None:
        while True:
            await self._sink.ship(await self._outcomes.shippable.get())

    async def _wait_for_outcomes(self, open_max: int) -> None:
        """Wait until at most `open_max` orders are open (0: and no movement), or no outcome comes any more."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + STALL_SECONDS_MAX
        while self._outcomes.waiting() > open_max or (not open_max and self._outcomes.movements_waiting()):
            self._outcomes.changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._outcomes.changed.wait(), POLL_SECONDS)
                deadline = loop.time() + STALL_SECONDS_MAX
            self._reader.check()
            if self._shipping is not None and self._shipping.done():
                self._shipping.result()
            self._advance()
            if loop.time() > deadline:
                if open_max:
                    raise ReplayError(f"nothing was answered for {STALL_SECONDS_MAX:.0f} s: is a worker running?")
                return

    def _advance(self) -> None:
        speed = self._progress.tasks[self._task].speed
        rate = f"{speed:,.0f} orders/s" if speed else ""
        self._progress.update(self._task, completed=self._outcomes.answered, rate=rate)

    async def _check(self) -> None:
        report = self._report
        report.confirmed = await self._sink.wait_until_consumed()
        await self._reader.catch_up()
        model = self._outcomes.model
        skus = dict.fromkeys((*self._survey.skus, *model.skus()))
        report.skus = len(skus)
        report.differences = await find_differences(model, self._client, skus, self._reader.catch_up)

    def _finish(self) -> ReplayReport:
        report, outcomes = self._report, self._outcomes
        report.outcomes = dict(outcomes.outcomes().most_common())
        report.placings = dict(outcomes.placings().most_common())
        report.movements = dict(outcomes.movement_outcomes().most_common())
        report.dead_letters = dict(outcomes.dead_letters.most_common())
        report.missing = outcomes.missing()
        report.changed = outcomes.model.changes > 0
        report.undecodable_rows = self._reader.undecodable
        return report


class _Pacer:
    """Waits until a time of the file has come, at `speed` times real time; does not wait where that is None."""

    def __init__(self, speed: float | None) -> None:
        self._speed = speed
        self._origin: tuple[float, float] | None = None

    async def wait(self, at: float) -> None:
        """Wait until `at`, s of the file's time."""
        if self._speed is None:
            return
        now = asyncio.get_running_loop().time()
        if self._origin is None:
            self._origin = (at, now)
        due = self._origin[1] + (at - self._origin[0]) / self._speed
        if due > now:
            await asyncio.sleep(due - now)
