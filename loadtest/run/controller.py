"""The controller of a run's load workers.

In: options, goods, a folder for their histories. Out: the workers' measurements; their records, for the history merge;
the steps of a rate search.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal

from stocktide.loadtest.measure.meter import LoadMeter, Measurements
from stocktide.loadtest.run import load_worker_process
from stocktide.loadtest.run.history_merge import HistoryMerge, HistoryTail
from stocktide.loadtest.run.load_generator import DRAIN_SECONDS_MAX
from stocktide.loadtest.run.load_worker_process import (
    READY_SECONDS_MAX,
    Assignment,
    LoadCommand,
    LoadWorkerProcess,
    LoadWorkerReport,
)
from stocktide.loadtest.run.options import FlashSaleOptions
from stocktide.loadtest.run.subscribers import SETTLE_SECONDS_MAX
from stocktide.loadtest.workload.scenarios import Goods

# The load begins so long after the command, so that every worker has it.
BEGIN_SECONDS = 1.0
# A busy machine needs more than the workers' own limits.
DONE_SECONDS_MAX = DRAIN_SECONDS_MAX + 60.0
RECORD_SECONDS_MAX = SETTLE_SECONDS_MAX + 60.0
SEARCH_STEPS = 8
# The first step: low enough that a working system keeps the goal.
FIRST_SHARE = 1 / 8


class LoadController:
    """The load workers of one run. `zero_at`: the start of the load, s of the monotonic clock; 0 before it is known.

    `ladder`: the steps of a rate search; `notes`: its result in a sentence.
    """

    def __init__(
        self, options: FlashSaleOptions, goods: Goods, folder: Path, history: HistoryMerge, clock_offset: float
    ) -> None:
        self._options = options
        self._goods = goods
        self._folder = folder
        self._history = history
        self._clock_offset = clock_offset
        self._generators: list[LoadWorkerProcess] = []
        self._subscribers: LoadWorkerProcess | None = None
        self._tails: list[tuple[LoadWorkerProcess, HistoryTail]] = []
        self.zero_at = 0.0
        self.ladder: list[dict[str, object]] = []
        self.notes: list[str] = []

    async def start(self, stack: AsyncExitStack) -> None:
        """Start all workers, and wait until they are connected. Raises LoadWorkerError."""
        options = self._options
        for index in range(options.processes):
            self._generators.append(await self._start_worker(stack, f"tester-{index + 1}", "push", index))
        if options.subscribers:
            name, index = "tester-subscribers", options.processes
            self._subscribers = await self._start_worker(stack, name, "subscribe", index)
        for worker, _ in self._tails:
            await worker.next_report("ready", READY_SECONDS_MAX)

    async def _start_worker(
        self, stack: AsyncExitStack, name: str, role: Literal["push", "subscribe"], index: int
    ) -> LoadWorkerProcess:
        options, history = self._options, self._folder / f"history-{index}.ndjson"
        history.touch()
        assignment = Assignment(
            role=role,
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
            sockets=options.sockets,
            file=str(options.file.absolute()) if options.file else None,
            speed=options.speed,
            form=options.form,
        )
        worker = await load_worker_process.start(name, options.command, assignment)
        stack.push_async_callback(worker.end)
        self._tails.append((worker, self._history.open_tail(history)))
        return worker

    def pids(self) -> dict[str, int]:
        """Process ids by name: this process, its workers, and the system where it runs on this machine."""
        own = {worker.name: worker.pid for worker, _ in self._tails}
        return {**own, "tester-lead": os.getpid(), **self._options.pids}

    async def push(self) -> tuple[list[Measurements], float]:
        """Generate the whole load; the workers' measurements, and its length (s)."""
        options = self._options
        self.zero_at = time.monotonic() + BEGIN_SECONDS
        if self._subscribers is not None:
            await self._subscribers.send(LoadCommand("start", zero_at=self.zero_at))
        if options.shape == "search":
            return await self._search()
        shape = "steady" if options.shape == "file" else options.shape
        stretch = LoadCommand("start", self.zero_at, self.zero_at, shape, seconds=options.seconds, peak=options.rate)
        return await self._generate(stretch), options.seconds

    async def _generate(self, stretch: LoadCommand) -> list[Measurements]:
        for worker in self._generators:
            await worker.send(stretch)
        seconds_max = stretch.begins_at - time.monotonic() + stretch.seconds + DONE_SECONDS_MAX
        reports: list[LoadWorkerReport] = await asyncio.gather(
            *(worker.next_report("done", seconds_max) for worker in self._generators)
        )
        return [report.part for report in reports if report.part is not None]

    async def _search(self) -> tuple[list[Measurements], float]:
        """The steps of a rate search, one after the other, each of the same length."""
        options, parts = self._options, list[Measurements]()
        search, seconds, first = RateSearch(options.rate, SEARCH_STEPS), options.seconds / SEARCH_STEPS, 0
        while (rate := search.next_rate()) is not None:
            # A whole second, so that no second of the measurements belongs to two steps.
            begins = float(int(time.monotonic() - self.zero_at) + 2)
            stretch = LoadCommand(
                "start", self.zero_at, self.zero_at + begins, "steady", seconds, rate, first, len(self.ladder)
            )
            parts = await self._generate(stretch)
            first += int(rate * seconds * 2) + 1_000
            of_step = range(int(begins), int(begins + seconds) + 1)
            step = _measure_step(LoadMeter(parts), of_step, rate, options.goal_ms)
            search.report(rate, bool(step["kept"]))
            self.ladder.append(step)
        top = f"{search.highest_kept:,.0f} orders/s"
        missed = search.lowest_missed
        self.notes.append(
            f"the highest rate that kept p99 within {options.goal_ms:g} ms was {top}"
            + (", the highest that was tried" if missed is None else f"; {missed:,.0f} did not")
        )
        return parts, time.monotonic() - self.zero_at

    def reports(self) -> tuple[list[LoadWorkerReport], LoadWorkerReport | None]:
        """The newest reports of the workers that generate load, and that of the subscribers."""
        subscribers = self._subscribers.last if self._subscribers is not None else None
        return [worker.last for worker in self._generators], subscribers

    def read_histories(self) -> None:
        """Read what the workers have written since the last call. Raises LoadWorkerError where one cannot go on."""
        for worker, tail in self._tails:
            worker.check()
            tail.read_on(worker.last.at)

    async def record_subscribers(self, versions: dict[str, dict[str, int]]) -> list[Measurements]:
        """Let every subscriber record what it holds, once it has these versions by channel and SKU or gets no more.

        Returns their measurements. Raises LoadWorkerError.
        """
        if self._subscribers is None:
            return []
        await self._subscribers.send(LoadCommand("record", versions=versions))
        part = (await self._subscribers.next_report("done", RECORD_SECONDS_MAX)).part
        return [] if part is None else [part]


class RateSearch:
    """Doubles the rate until one misses the goal, then halves the gap between highest kept and lowest missed."""

    def __init__(self, rate_max: float, steps: int) -> None:
        self._rate_max = rate_max
        self._steps_left = steps
        self.highest_kept = 0.0
        self.lowest_missed: float | None = None

    def next_rate(self) -> float | None:
        """The rate to try; None when the search is over."""
        if not self._steps_left or self.highest_kept >= self._rate_max:
            return None
        self._steps_left -= 1
        if self.lowest_missed is not None:
            return (self.highest_kept + self.lowest_missed) / 2
        return min(self._rate_max, 2 * self.highest_kept) if self.highest_kept else self._rate_max * FIRST_SHARE

    def report(self, rate: float, kept: bool) -> None:
        """Report whether a rate kept the goal."""
        if kept:
            self.highest_kept = max(self.highest_kept, rate)
        else:
            self.lowest_missed = rate if self.lowest_missed is None else min(self.lowest_missed, rate)


def _measure_step(merged: LoadMeter, seconds: range, rate: float, goal_ms: float) -> dict[str, object]:
    answered = merged.latencies("accepted", "refused", seconds=seconds)
    failed, scheduled = merged.counted("failed", seconds), merged.counted("scheduled", seconds)
    kept = bool(answered.count) and answered.p99 <= goal_ms and failed == 0
    percentiles = {name: getattr(answered, name) for name in ("p50", "p90", "p99", "p999", "max")}
    return {"rate": round(rate, 1), "kept": kept, "scheduled": scheduled, "failed": failed, **percentiles}
