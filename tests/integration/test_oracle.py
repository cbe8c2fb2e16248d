"""The history of a real run is judged: correct as it is, broken when a record is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
import pytest
from msgspec import structs

from stocktide.loadtest.client.topics import TopicReader
from stocktide.loadtest.oracle.history import (
    HistoryClock,
    HistoryRecord,
    OrderPublished,
    ReadOrder,
    RunQuiesced,
    RunStarted,
    UpdateReceived,
)
from stocktide.loadtest.oracle.judge import LiveJudge, judge
from stocktide.loadtest.run.quiesce import FinalStateReader
from stocktide.loadtest.run.recording import RecordingHttpClient, RecordingSubscriber, RequestRecorder, recorders
from stocktide.retry import poll_until
from tests.harness.system import RunningSystem

pytestmark = pytest.mark.integration

AT = "2026-11-11T00:00:00Z"
ORDERS = 30
QUIET_SECONDS_MAX = 30.0


async def place_and_end_order(client: RecordingHttpClient, recorder: RequestRecorder, number: int) -> None:
    """Place an order, sometimes twice, then end it in one of several ways."""
    order_id = f"o{number}"
    placed = {"order_id": order_id, "channel": "tmall", "lines": [{"sku": "A", "quantity": 1 + number % 2}]}
    await asyncio.gather(*(client.ask("order.placed", placed) for _ in range(1 + number % 2)))
    end = ("paid", "cancelled", "extended")[number % 3]
    kind, event = f"order.{end}", {"id": f"{order_id}-{end}", "order_id": order_id}
    if number % 5:
        await client.ask(kind, event)
    else:
        event["occurred_at"] = AT
        line = orjson.dumps({"type": kind, **event})
        await client.send_lines([(recorder.request("ndjson", kind, event), line)])


async def record_history(running: RunningSystem) -> list[HistoryRecord]:
    """The history of a short run."""
    records: list[HistoryRecord] = []
    clock = HistoryClock()
    recorder = RequestRecorder(clock, 0, records.append)
    recorder.add(RunStarted(clock.now(), "app"))
    reader = TopicReader(str(running.ready["kafka"]), running.app_id, recorders(clock, records.append))
    subscriber = RecordingSubscriber("s1", "tmall", [running.api], clock, records.append)
    async with RecordingHttpClient(running.api, recorder) as client:
        await reader.start()
        try:
            subscriber.start()
            receipt = {"id": "r1", "occurred_at": AT, "warehouse": "SH1", "lines": [{"sku": "A", "quantity": 25}]}
            for _ in range(2):
                await client.ask("stock.received", receipt)
            policy = {"buffer": 2, "share": 0.9}
            await client.ask("policy.put", {"channel": "tmall", "sku": None, "policy": policy})
            assert await poll_until(lambda: _has_record(records, lambda record: isinstance(record, UpdateReceived)), 30)
            await asyncio.gather(*(place_and_end_order(client, recorder, number) for number in range(ORDERS)))
            await _wait_until_quiet(reader)
            recorder.add(RunQuiesced(clock.now()))
            orders = [f"o{number}" for number in range(ORDERS)]
            final = FinalStateReader(client, clock, records.append)
            await final.read(["tmall"], ["A"], orders, policies=[("tmall", None)])
        finally:
            await subscriber.stop()
            await reader.stop()
    return records


async def _has_record(records: list[HistoryRecord], matches: Callable[[HistoryRecord], bool]) -> bool:
    return any(matches(record) for record in records)


async def _wait_until_quiet(reader: TopicReader) -> None:
    """Wait until no row arrives."""
    rows = -1

    async def is_quiet() -> bool:
        nonlocal rows
        before, rows = rows, reader.rows
        await asyncio.sleep(0.7)
        return before == rows == reader.rows

    assert await poll_until(is_quiet, QUIET_SECONDS_MAX)
    await reader.catch_up()


async def test_a_run_is_fair_and_each_change_of_its_history_is_seen(
    system: Callable[..., Coroutine[Any, Any, RunningSystem]],
) -> None:
    running = await system()
    await running.wait_ready()
    records = await record_history(running)
    verdict = judge(records)
    assert verdict.ok, "\n".join(verdict.lines())
    live_judge = LiveJudge()
    assert not [violation for record in records for violation in live_judge.feed(record)]

    lost = [structs.replace(record, order=None) if isinstance(record, ReadOrder) else record for record in records]
    assert judge(lost).part("answer_lost").found
    last = [record for record in records if isinstance(record, UpdateReceived)][-1]
    assert judge([record for record in records if record is not last]).part("channel_not_converged").found
    row = [record for record in records if isinstance(record, OrderPublished) and record.order.state == "paid"][-1]
    again = structs.replace(row, order=structs.replace(row.order, state="expired", sequence=row.order.sequence + 1))
    assert judge([*records, again]).part("hold_ended_twice").found
