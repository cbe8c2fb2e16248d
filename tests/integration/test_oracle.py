"""The history of a real run is judged: correct as it is, broken when a record is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from msgspec import structs

from stocktide.loadtest.client.contract import ChannelUpdateView, OrderView, StockView
from stocktide.loadtest.client.http import JSON, NDJSON, StocktideClient
from stocktide.loadtest.client.topics import TopicReader
from stocktide.loadtest.oracle import history
from stocktide.loadtest.oracle.judge import LiveJudge, judge
from stocktide.loadtest.run.recording_subscriber import RecordingSubscriber
from stocktide.loadtest.run.topic_records import recorders
from stocktide.retry import poll_until
from tests.harness.system import RunningSystem

AT = "2026-11-11T00:00:00Z"
ORDERS = 30
QUIET_SECONDS_MAX = 30.0


class _Page(msgspec.Struct):
    items: tuple[ChannelUpdateView, ...]
    next: str | None = None


class RecordingVisitor:
    """A client that records its requests, responses and updates."""

    def __init__(self, client: StocktideClient) -> None:
        self.records: list[history.HistoryRecord] = []
        self.clock = history.HistoryClock()
        self._client = client
        self._number = 0
        self.add(history.RunStarted(self.clock.now(), "app"))

    def add(self, record: history.HistoryRecord) -> None:
        self.records.append(record)

    async def ask(
        self, kind: str, path: str, door: history.InputTransport = "http", method: str = "POST", **event: Any
    ) -> history.Response:
        self._number += 1
        number = self._number
        self.add(history.Request(self.clock.now(), number, door, kind, event))
        body: dict[str, Any] = event.get("policy", {}) if kind == "policy.put" else event
        if not kind.startswith("policy."):
            body = {"type": kind, **event} if door == "ndjson" or kind.startswith("stock.") else event
        raw = msgspec.json.encode(body) + b"\n" * (door == "ndjson")
        answer = await self._client.call(method, path, raw, NDJSON if door == "ndjson" else JSON)
        response = history.decode_response(self.clock.now(), number, answer.status, answer.body)
        self.add(response)
        return response

    async def get(self, path: str, kind: Any) -> Any:
        answer = await self._client.call("GET", path)
        return msgspec.json.decode(answer.body, type=kind) if answer.status == 200 else None

    async def place_and_end_order(self, number: int) -> None:
        """Place an order, sometimes twice, then end it in one of several ways."""
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

    async def read_final_state(self) -> None:
        """Read everything at rest."""
        self.add(history.RunQuiesced(self.clock.now()))
        for number in range(ORDERS):
            order = await self.get(f"/v1/orders/o{number}", OrderView)
            self.add(history.ReadOrder(self.clock.now(), self.clock.now(), f"o{number}", order))
        self.add(history.ReadStock(self.clock.now(), self.clock.now(), "A", await self.get("/v1/stock/A", StockView)))
        page = await self.get("/v1/channels/tmall/stock", _Page)
        self.add(history.ReadChannel(self.clock.now(), self.clock.now(), "tmall", page.items, page.next))
        policy = await self.get("/v1/policies/tmall", dict[str, Any])
        self.add(history.ReadPolicy(self.clock.now(), self.clock.now(), "tmall", None, policy["own"]))


async def record_history(running: RunningSystem) -> list[history.HistoryRecord]:
    """The history of a short run."""
    async with StocktideClient(running.api, 16) as client:
        recording_client = RecordingVisitor(client)
        reader = TopicReader(
            str(running.ready["kafka"]), running.app_id, recorders(recording_client.clock, recording_client.add)
        )
        subscriber = RecordingSubscriber("s1", "tmall", [running.api], recording_client.clock, recording_client.add)
        await reader.start()
        try:
            subscriber.start()
            line = {"sku": "A", "quantity": 25}
            receipt = {"id": "r1", "occurred_at": AT, "warehouse": "SH1", "lines": [line]}
            for _ in range(2):
                await recording_client.ask("stock.received", "/v1/movements", **receipt)
            policy = {"buffer": 2, "share": 0.9}
            put = {"channel": "tmall", "sku": None, "policy": policy}
            await recording_client.ask("policy.put", "/v1/policies/tmall", method="PUT", **put)
            assert await poll_until(
                lambda: _has_record(
                    recording_client.records, lambda record: isinstance(record, history.UpdateReceived)
                ),
                30,
            )
            await asyncio.gather(*(recording_client.place_and_end_order(number) for number in range(ORDERS)))
            await _wait_until_quiet(reader)
            await recording_client.read_final_state()
        finally:
            await subscriber.stop()
            await reader.stop()
    return recording_client.records


async def _has_record(records: list[history.HistoryRecord], matches: Callable[[history.HistoryRecord], bool]) -> bool:
    return any(matches(record) for record in records)


async def _wait_until_quiet(reader: TopicReader) -> None:
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

    lost = [
        structs.replace(record, order=None) if isinstance(record, history.ReadOrder) else record for record in records
    ]
    assert judge(lost).part("answer_lost").found
    last = [record for record in records if isinstance(record, history.UpdateReceived)][-1]
    assert judge([record for record in records if record is not last]).part("channel_not_converged").found
    row = [record for record in records if isinstance(record, history.OrderPublished) and record.order.state == "paid"][
        -1
    ]
    again = structs.replace(row, order=structs.replace(row.order, state="expired", sequence=row.order.sequence + 1))
    assert judge([*records, again]).part("hold_ended_twice").found
