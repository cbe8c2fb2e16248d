"""Leads the testers of a run: starts them, tells them when to push what, and gathers what they say.

In: options, goods, a folder for their histories. Out: what each has measured; their records, as they come, to the
gathering; the steps of a search.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path

from stocktide.loadtest.measure.meter import Measurements, MergedMeasurements
from stocktide.loadtest.run.history_merge import HistoryMerge, HistoryTail
from stocktide.loadtest.run.load_generator import DRAIN_SECONDS_MAX
from stocktide.loadtest.run.load_worker_process import LoadWorkerProcess, start
from stocktide.loadtest.run.options import FlashSaleOptions
from stocktide.loadtest.run.process_messages import Assignment, LoadCommand, LoadWorkerReport
from stocktide.loadtest.run.subscribers import SETTLE_SECONDS_MAX
from stocktide.loadtest.workload.rate_search import RateSearch
from stocktide.loadtest.workload.scenarios import Goods

# The load begins so long after everybody is told when.
BEGIN_SECONDS = 1.0
# After its load a tester waits for whoever is under way; this is for a machine that is busy besides.
DONE_SECONDS_MAX = DRAIN_SECONDS_MAX + 60.0
# Subscribers of a machine that is busy besides take this long to read what lies before them.
TELL_SECONDS_MAX = SETTLE_SECONDS_MAX + 60.0
LADDER_STEPS = 8


class LoadController:
    """The testers of one run. `zero_at`: when the load began, s of the monotonic clock; 0 before it is known.

    `ladder`: the steps of a search; `notes`: what there is to say of it.
    """

    def __init__(
        self, options: FlashSaleOptions, goods: Goods, folder: Path, gathering: HistoryMerge, offset: float
    ) -> None:
        self._options = options
        self._goods = goods
        self._folder = folder
        self._gathering = gathering
        self._clock_offset = offset
        self._pushers: list[LoadWorkerProcess] = []
        self._crowd: LoadWorkerProcess | None = None
        self._files: list[tuple[LoadWorkerProcess, HistoryTail]] = []
        self.zero_at = 0.0
        self.ladder: list[dict[str, object]] = []
        self.notes: list[str] = []

    async def start(self, stack: AsyncExitStack) -> None:
        """Start all of them, and wait until they are connected. Raises TesterError."""
        options = self._options
        for index in range(options.processes):
            self._pushers.append(await self._start_tester(stack, f"tester-{index + 1}", "push", index))
        if options.subscribers:
            index = options.processes
            self._crowd = await self._start_tester(stack, "tester-subscribers", "subscribe", index)
        for tester, _ in self._files:
            await tester.is_ready()

    async def _start_tester(self, stack: AsyncExitStack, name: str, role: str, index: int) -> LoadWorkerProcess:
        options, history = self._options, self._folder / f"history-{index}.ndjson"
        history.touch()
        assignment = Assignment(
            role="push" if role == "push" else "subscribe",
            index=index,
            processes=options.processes,
            seed=options.seed,
            goods=self._goods,
            api=options.api,
            kafka=options.kafka,
            app_id=options.app_id,
            door=options.door,
            history=str(history),
            clock_offset=self._clock_offset,
            subscribers=options.subscribers if role == "subscribe" else 0,
            file=str(options.file.absolute()) if options.file else None,
            speed=options.speed,
            form=options.form,
        )
        tester = await start(name, options.command, assignment)
        stack.push_async_callback(tester.end)
        self._files.append((tester, self._gathering.tester(history)))
        return tester

    def pids(self) -> dict[str, int]:
        """Process ids by name, of the testers and of the system where it is on this machine."""
        own = {tester.name: tester.pid for tester, _ in self._files}
        return {**own, "tester-lead": os.getpid(), **self._options.pids}

    async def push(self) -> tuple[list[Measurements], float]:
        """All of the load; what the pushers measured, and how long it was."""
        options = self._options
        self.zero_at = time.monotonic() + BEGIN_SECONDS
        if self._crowd is not None:
            await self._crowd.order(LoadCommand("start", zero_at=self.zero_at))
        if options.shape == "search":
            return await self._search()
        shape = "steady" if options.shape == "file" else options.shape
        stretch = LoadCommand("start", self.zero_at, self.zero_at, shape, seconds=options.seconds, peak=options.rate)
        return await self._stretch(stretch), options.seconds

    async def _stretch(self, stretch: LoadCommand) -> list[Measurements]:
        for pusher in self._pushers:
            await pusher.order(stretch)
        wait = stretch.begins_at - time.monotonic() + stretch.seconds + DONE_SECONDS_MAX
        reports: list[LoadWorkerReport] = await asyncio.gather(*(pusher.is_done(wait) for pusher in self._pushers))
        return [report.part for report in reports if report.part is not None]

    async def _search(self) -> tuple[list[Measurements], float]:
        """One step of the ladder after the other, each as long."""
        options, parts = self._options, list[Measurements]()
        ladder, seconds, first = RateSearch(options.rate, LADDER_STEPS), options.seconds / LADDER_STEPS, 0
        while (rate := ladder.next()) is not None:
            # From a whole second on, so that its seconds are its own.
            begins = float(int(time.monotonic() - self.zero_at) + 2)
            stretch = LoadCommand(
                "start", self.zero_at, self.zero_at + begins, "steady", seconds, rate, first, len(self.ladder)
            )
            parts = await self._stretch(stretch)
            first += int(rate * seconds * 2) + 1_000
            step = _step(
                MergedMeasurements(parts), range(int(begins), int(begins + seconds) + 1), rate, options.goal_ms
            )
            ladder.went(rate, bool(step["kept"]))
            self.ladder.append(step)
        top = f"{ladder.good:,.0f} orders/s"
        self.notes.append(
            f"the highest rate that kept p99 within {options.goal_ms:g} ms was {top}"
            + (", the highest that was tried" if ladder.bad is None else f"; {ladder.bad:,.0f} did not")
        )
        return parts, time.monotonic() - self.zero_at

    def reports(self) -> tuple[list[LoadWorkerReport], LoadWorkerReport | None]:
        """The newest report of each who pushes, and that of the subscribers."""
        return [pusher.last for pusher in self._pushers], self._crowd.last if self._crowd is not None else None

    def take_in(self) -> None:
        """Take in what the testers have written since. Raises TesterError where one cannot go on."""
        for tester, file in self._files:
            tester.check()
            file.read_on(tester.last.at)

    async def tell(self, versions: dict[str, dict[str, int]]) -> list[Measurements]:
        """Let every subscriber write down what it holds, once it has these versions by channel and SKU or gets no more.

        Gives what they have measured. Raises TesterError.
        """
        if self._crowd is None:
            return []
        await self._crowd.order(LoadCommand("tell", versions=versions))
        part = (await self._crowd.is_done(TELL_SECONDS_MAX)).part
        return [] if part is None else [part]


def _step(whole: MergedMeasurements, seconds: range, rate: float, goal_ms: float) -> dict[str, object]:
    """How a step of the ladder went."""
    answered = whole.latencies("accepted", "refused", seconds=seconds)
    failed, scheduled = whole.count("failed", seconds), whole.count("scheduled", seconds)
    kept = bool(answered.count) and answered.p99 <= goal_ms and failed == 0
    told = {name: getattr(answered, name) for name in ("p50", "p90", "p99", "p999", "max")}
    return {"rate": round(rate, 1), "kept": kept, "scheduled": scheduled, "failed": failed, **told}
