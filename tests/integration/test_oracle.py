"""A real system is watched from outside, and its history judged: fair as it is, broken where a record is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest
from msgspec import structs

from stocktide.loadtest.client.contract import ChannelUpdateView, OrderView, StockView
from stocktide.loadtest.client.http import JSON, NDJSON, StocktideClient
from stocktide.loadtest.client.topics import TopicReader
from stocktide.loadtest.oracle.history import (
    HistoryClock,
    HistoryRecord,
    InputTransport,
    OrderPublished,
    ReadChannel,
    ReadOrder,
    ReadPolicy,
    ReadStock,
    Request,
    Response,
    RunQuiesced,
    RunStarted,
    UpdateReceived,
    decode_response,
)
from stocktide.loadtest.oracle.judge import LiveJudge, judge
from stocktide.loadtest.run.recording_subscriber import RecordingSubscriber
from stocktide.loadtest.run.topic_records import recorders
from stocktide.retry import poll_until
from tests.harness.system import RunningSystem

pytestmark = pytest.mark.integration

AT = "2026-11-11T00:00:00Z"
ORDERS = 30
QUIET_SECONDS_MAX = 30.0


class _Page(msgspec.Struct):
    items: tuple[ChannelUpdateView, ...]
    next: str | None = None


class RecordingVisitor:
    """Asks, and writes down what it asks, is told and sees."""

    def __init__(self, client: StocktideClient) -> None:
        self.records: list[HistoryRecord] = []
        self.clock = HistoryClock()
        self._client = client
        self._number = 0
        self.add(RunStarted(self.clock.now(), "app"))

    def add(self, record: HistoryRecord) -> None:
        self.records.append(record)

    async def ask(
        self, kind: str, path: str, door: InputTransport = "http", method: str = "POST", **event: Any
    ) -> Response:
        self._number += 1
        number = self._number
        self.add(Request(self.clock.now(), number, door, kind, event))
        body: dict[str, Any] = event.get("policy", {}) if kind == "policy.put" else event
        if not kind.startswith("policy."):
            body = {"type": kind, **event} if door == "ndjson" or kind.startswith("stock.") else event
        raw = msgspec.json.encode(body) + b"\n" * (door == "ndjson")
        answer = await self._client.call(method, path, raw, NDJSON if door == "ndjson" else JSON)
        told = decode_response(self.clock.now(), number, answer.status, answer.body)
        self.add(told)
        return told

    async def get(self, path: str, kind: Any) -> Any:
        answer = await self._client.call("GET", path)
        return msgspec.json.decode(answer.body, type=kind) if answer.status == 200 else None

    async def trade(self, number: int) -> None:
        """One shopper: placed, asked again, and then one of several ends."""
        order_id = f"o{number}"
        placed = {"order_id": order_id, "channel": "tmall", "lines": [{"sku": "A", "quantity": 1 + number % 2}]}
        await asyncio.gather(*(self.ask("order.placed", "/v1/orders", **placed) for _ in range(1 + number % 2)))
        end = ("paid", "cancelled", "extended")[number % 3]
        path = {"paid": "pay", "cancelled": "cancel", "extended": "extend"}[end]
        if number % 5:
            await self.ask(f"order.{end}", f"/v1/orders/{order_id}/{path}", id=f"{order_id}-{end}", order_id=order_id)
        else:
            event = {"id": f"{order_id}-{end}", "order_id": order_id, "occurred_at": AT}
            await self.ask(f"order.{end}", "/v1/events", "ndjson", **event)

    async def rest(self) -> None:
        """Read everything, as it is at rest."""
        self.add(RunQuiesced(self.clock.now()))
        for number in range(ORDERS):
            order = await self.get(f"/v1/orders/o{number}", OrderView)
            self.add(ReadOrder(self.clock.now(), self.clock.now(), f"o{number}", order))
        self.add(ReadStock(self.clock.now(), self.clock.now(), "A", await self.get("/v1/stock/A", StockView)))
        page = await self.get("/v1/channels/tmall/stock", _Page)
        self.add(ReadChannel(self.clock.now(), self.clock.now(), "tmall", page.items, page.next))
        policy = await self.get("/v1/policies/tmall", dict[str, Any])
        self.add(ReadPolicy(self.clock.now(), self.clock.now(), "tmall", None, policy["own"]))


async def history_of(running: RunningSystem) -> list[HistoryRecord]:
    """A short run."""
    async with StocktideClient(running.api, 16) as client:
        visitor = RecordingVisitor(client)
        feeds = TopicReader(str(running.ready["kafka"]), running.app_id, recorders(visitor.clock, visitor.add))
        subscriber = RecordingSubscriber("s1", "tmall", [running.api], visitor.clock, visitor.add)
        await feeds.start()
        try:
            subscriber.start()
            line = {"sku": "A", "quantity": 25}
            receipt = {"id": "r1", "occurred_at": AT, "warehouse": "SH1", "lines": [line]}
            for _ in range(2):
                await visitor.ask("stock.received", "/v1/movements", **receipt)
            policy = {"buffer": 2, "share": 0.9}
            put = {"channel": "tmall", "sku": None, "policy": policy}
            await visitor.ask("policy.put", "/v1/policies/tmall", method="PUT", **put)
            assert await poll_until(
                lambda: _is_seen(visitor.records, lambda record: isinstance(record, UpdateReceived)), 30
            )
            await asyncio.gather(*(visitor.trade(number) for number in range(ORDERS)))
            await _quiet(feeds)
            await visitor.rest()
        finally:
            await subscriber.stop()
            await feeds.stop()
    return visitor.records


async def _is_seen(records: list[HistoryRecord], which: Callable[[HistoryRecord], bool]) -> bool:
    return any(which(record) for record in records)


async def _quiet(feeds: TopicReader) -> None:
    """Wait until no row has come for a while."""
    rows = -1

    async def still() -> bool:
        nonlocal rows
        before, rows = rows, feeds.rows
        await asyncio.sleep(0.7)
        return before == rows == feeds.rows

    assert await poll_until(still, QUIET_SECONDS_MAX)
    await feeds.catch_up()


async def test_a_run_is_fair_and_each_change_of_its_history_is_seen(
    system: Callable[..., Coroutine[Any, Any, RunningSystem]],
) -> None:
    running = await system()
    await running.wait_ready()
    records = await history_of(running)
    verdict = judge(records)
    assert verdict.ok, "\n".join(verdict.lines())
    watch = LiveJudge()
    assert not [violation for record in records for violation in watch.feed(record)]

    lost = [structs.replace(record, order=None) if isinstance(record, ReadOrder) else record for record in records]
    assert judge(lost).part("answer_lost").found
    last = [record for record in records if isinstance(record, UpdateReceived)][-1]
    assert judge([record for record in records if record is not last]).part("channel_not_converged").found
    row = [record for record in records if isinstance(record, OrderPublished) and record.order.state == "paid"][-1]
    again = structs.replace(row, order=structs.replace(row.order, state="expired", sequence=row.order.sequence + 1))
    assert judge([*records, again]).part("hold_ended_twice").found
