"""Replays the Online Retail file against a running system, and proves afterwards that every number is right.

In: `ReplayOptions`. Out: the exit status of `run`: 0 where all is as expected, 1 where a number differs or an
answer is missing, 2 where the replay could not be done.

The file goes in through a door (`loadtest.replay.event_sinks`); what the system tells everyone is followed
(`loadtest.client.topics`) and folded (`loadtest.replay.stock_model`); the fold is compared with the API
(`loadtest.replay.check`).
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
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from stocktide.errors import StocktideError
from stocktide.loadtest.client import events
from stocktide.loadtest.client.http import ApiError, StocktideClient
from stocktide.loadtest.client.topics import RejectedEvent, TopicReader, TopicReaderError, decoding_handler
from stocktide.loadtest.replay.check import differences
from stocktide.loadtest.replay.event_sinks import REQUESTS_MAX, EventSink, EventSinkError, HttpEventSink, KafkaEventSink
from stocktide.loadtest.replay.outcomes import OutcomeTracker
from stocktide.loadtest.replay.report import ReplayReport, by_reason
from stocktide.loadtest.replay.stock_model import ReplayedMovement, ReplayedOrder, StockModel
from stocktide.loadtest.workload import retail
from stocktide.loadtest.workload.retail_dates import DateOrder
from stocktide.loadtest.workload.retail_text import is_encoding

# Orders sent and not answered: enough to keep every stage busy; more would only wait in Kafka.
ORDERS_OPEN_MAX = 5_000
# No answer to anything for so long: longer than a killed worker needs to come back and take over.
STALL_SECONDS_MAX = 120.0
# How often a wait looks at the clock, the feeds and the progress bar.
LOOK_SECONDS = 0.2
QUANTITY_MAX = retail.QUANTITY_MAX


class ReplayError(StocktideError):
    """The replay cannot be done as asked; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """What to replay and where to.

    `opening`: units of every SKU to receive first, None for none. `speed`: times real time of the file's dates,
    None for as fast as it goes. `door`: how orders go in. `dates`, `encoding`: how
    the file writes them (`retail.Form`). `until`: the last step of an order. `security`: what lets a
    client of aiokafka in.
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
        """Refuse what cannot work. Raises ReplayError."""
        if self.kafka is None:
            raise ReplayError("the replay follows topics by either door: it needs Kafka's HOST:PORT")
        if self.opening is not None and not 1 <= self.opening <= QUANTITY_MAX:
            raise ReplayError(f"an opening of {self.opening} units: from 1 to {QUANTITY_MAX}")
        if self.speed is not None and not self.speed > 0:
            raise ReplayError(f"a speed of {self.speed}: more than 0, or max")
        if not is_encoding(self.encoding):
            raise ReplayError(f"--encoding {self.encoding!r} is no encoding; some are utf-8, cp1252, gb18030, utf-16")
        if self.report is not None and not self.report.absolute().parent.is_dir():
            raise ReplayError(f"the report cannot be written: there is no folder {self.report.parent}")

    @property
    def form(self) -> retail.FileFormat:
        """How the file is written."""
        return retail.FileFormat(self.dates, self.encoding)


def run(options: ReplayOptions) -> int:
    """Replay and report; gives the exit status. Every expected failure is one sentence on standard error."""
    console = Console(stderr=True, highlight=False)
    try:
        options.check()
        report = asyncio.run(_replay(options, console))
        if options.report is not None:
            options.report.write_bytes(orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2) + b"\n")
    except (ReplayError, retail.RetailError, TopicReaderError, EventSinkError, ApiError, OSError) as error:
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
    answers = OutcomeTracker(StockModel(), ships=options.until == "shipped")
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(StocktideClient(options.api, REQUESTS_MAX))
        await client.reach()
        assert options.kafka is not None
        feeds = TopicReader(
            options.kafka,
            options.app_id,
            {
                "reservations": decoding_handler(ReplayedOrder, answers.on_order),
                "adjustments": decoding_handler(ReplayedMovement, answers.on_movement),
                "dead-letters": decoding_handler(RejectedEvent, answers.on_dead_letter),
            },
            **options.security,
        )
        stack.push_async_callback(feeds.stop)
        await feeds.start()
        door: EventSink = (
            HttpEventSink(client)
            if options.door == "http"
            else KafkaEventSink(options.kafka, options.app_id, **options.security)
        )
        await stack.enter_async_context(door)
        with console.status("reading the topics"):
            await feeds.catch_up()
        answers.begin()
        return await FileReplay(options, survey, answers, feeds, door, client, console).run()


class FileReplay:
    """One replay, connected."""

    def __init__(
        self,
        options: ReplayOptions,
        survey: retail.FileSurvey,
        answers: OutcomeTracker,
        feeds: TopicReader,
        door: EventSink,
        client: StocktideClient,
        console: Console,
    ) -> None:
        self._options = options
        self._survey = survey
        self._answers = answers
        self._feeds = feeds
        self._door = door
        self._client = client
        self._console = console
        self._shipping: asyncio.Task[None] | None = None
        self._report = ReplayReport(options.file.name, options.door, options.until, options.opening, rows=survey.rows)
        self._report.skipped = by_reason(survey.skipped)
        self._report.ragged_rows, self._report.ragged_first = survey.ragged.rows, survey.ragged.first
        if survey.first_at is not None and survey.last_at is not None:
            self._report.first_at, self._report.last_at = survey.first_at.isoformat(), survey.last_at.isoformat()

    async def run(self) -> ReplayReport:
        """Opening stock, then the invoices, then the check."""
        if self._options.opening is not None and not await self._open(self._options.opening):
            self._report.stopped = "the opening stock was not answered, so no order was sent: is a worker running?"
            return self._finish()
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        self._shipping = asyncio.create_task(self._ship())
        try:
            with self._progress() as progress:
                task = progress.add_task("orders", total=self._survey.orders, rate="")
                await self._send(progress, task)
                await self._until_answered(0, progress, task)
        finally:
            self._shipping.cancel()
            await asyncio.gather(self._shipping, return_exceptions=True)
        self._report.seconds = loop.time() - started_at
        with self._console.status("comparing every SKU with the API"):
            await self._check()
        return self._finish()

    async def _open(self, units: int) -> bool:
        """Receive `units` of every SKU; False where that was not answered in time."""
        at = self._survey.first_at
        if at is None:
            return True
        with self._console.status(f"receiving {units:,} of each of {len(self._survey.skus):,} SKUs"):
            for receipt in events.opening_receipts(tuple(self._survey.skus), units, at):
                self._answers.sent_movement(receipt)
                await self._door.movement(receipt)
            await self._until_answered(0)
        return not self._answers.movements_waiting()

    async def _send(self, progress: Progress, task: TaskID) -> None:
        report = self._report
        pacer = _Pacer(self._options.speed)
        for invoice in retail.read(self._options.file, self._options.form):
            await pacer.wait(invoice.at.timestamp())
            report.invoices += 1
            for placed in events.orders_of(invoice):
                if self._answers.waiting() >= ORDERS_OPEN_MAX:
                    await self._until_answered(ORDERS_OPEN_MAX - 1, progress, task)
                self._answers.sent_order(placed)
                await self._door.order(placed)
                report.orders += 1
                report.lines += len(placed["lines"])
            report.units += sum(item.quantity for item in invoice.ordered)
            for movement in events.movements_of(invoice):
                self._answers.sent_movement(movement)
                await self._door.movement(movement)
            self._advance(progress, task)

    async def _ship(self) -> None:
        while True:
            await self._door.ship(await self._answers.shippable.get())

    async def _until_answered(
        self, open_max: int, progress: Progress | None = None, task: TaskID | None = None
    ) -> None:
        """Wait until at most `open_max` orders wait (0: and no movement), or nothing is answered any more."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + STALL_SECONDS_MAX
        while self._answers.waiting() > open_max or (not open_max and self._answers.movements_waiting()):
            self._answers.moved.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._answers.moved.wait(), LOOK_SECONDS)
                deadline = loop.time() + STALL_SECONDS_MAX
            self._feeds.check()
            if self._shipping is not None and self._shipping.done():
                self._shipping.result()
            if progress is not None and task is not None:
                self._advance(progress, task)
            if loop.time() > deadline:
                if open_max:
                    raise ReplayError(f"nothing was answered for {STALL_SECONDS_MAX:.0f} s: is a worker running?")
                return

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
        )

    def _advance(self, progress: Progress, task: TaskID) -> None:
        speed = progress.tasks[task].speed
        rate = f"{speed:,.0f} orders/s" if speed else ""
        progress.update(task, completed=self._answers.answered, rate=rate)

    async def _check(self) -> None:
        report = self._report
        report.confirmed = await self._door.taken()
        await self._feeds.catch_up()
        oracle = self._answers.oracle
        skus = dict.fromkeys((*self._survey.skus, *oracle.skus()))
        report.skus = len(skus)
        report.differences = await differences(oracle, self._client, skus, self._feeds.catch_up)

    def _finish(self) -> ReplayReport:
        report, answers = self._report, self._answers
        report.outcomes = by_reason(answers.outcomes())
        report.placings = by_reason(answers.placings())
        report.movements = by_reason(answers.movement_outcomes())
        report.dead_letters = by_reason(answers.dead_letters)
        report.missing = answers.missing()
        report.changed = answers.oracle.changes > 0
        report.undecodable_rows = self._feeds.undecodable
        return report


class _Pacer:
    """Waits until a moment of the file has come, `speed` times as fast as it went; None waits for nothing."""

    def __init__(self, speed: float | None) -> None:
        self._speed = speed
        self._origin: tuple[float, float] | None = None

    async def wait(self, moment: float) -> None:
        """`moment` in seconds of the file's time."""
        if self._speed is None:
            return
        now = asyncio.get_running_loop().time()
        if self._origin is None:
            self._origin = (moment, now)
        due = self._origin[1] + (moment - self._origin[0]) / self._speed
        if due > now:
            await asyncio.sleep(due - now)
