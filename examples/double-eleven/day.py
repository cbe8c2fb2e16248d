"""Plays the story on a running system, and compares each step and the end with what the story expects.

In: a client of the API, the story. Out: lines on the console, and the number of differences.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

import orjson
from calls import Call
from story import ALERTS, ANNOUNCEMENTS, CHANNELS, COUNTERS, ORDERS, STEPS, WAREHOUSES, Numbers, Step

from stocktide.client import Order
from stocktide.client.http import NDJSON
from stocktide.errors import CommandError
from stocktide.loadtest.client.contract import AlertView
from stocktide.loadtest.client.http import StocktideClient, request_of
from stocktide.loadtest.client.topics import TopicReader, decoding_handler
from stocktide.progress import Echo

# A step takes milliseconds on a quiet machine.
WAIT_SECONDS_MAX = 20.0
POLL_SECONDS = 0.02
# The ledger refuses times that are ahead of its clock: the day's last hour is the one that ends now.
DAY = timedelta(hours=24)
_WIDTHS = (8, 9, 10, 8, 10, 7, 11, 12, 10, 9, 7, 6, 8, 9, 6)
_SYMBOLS = {"preorder": "P{preorder_remaining}", "in_stock": "{quantity}", "sold_out": "-"}


class Day:
    """The day that ends now. `kafka` and `app_id`: where the system writes its alerts."""

    def __init__(self, client: StocktideClient, kafka: str, app_id: str, echo: Echo) -> None:
        self._client = client
        self._kafka = kafka
        self._app_id = app_id
        self._alerts: dict[tuple[str, str, str], int | None] = {}
        self._echo = echo
        self._begin = datetime.now(UTC) - DAY
        self._events = 0
        self.differences = 0

    async def play(self) -> None:
        """All steps, then the end of the day. Raises CommandError where the system is not new."""
        if await self._get("/v1/channels") != {"items": []}:
            raise CommandError("the example needs a system that holds nothing yet")
        self._echo(_row(("", *COUNTERS, *CHANNELS)))
        for step in STEPS:
            await self._step(step)
        self._echo("\nThe end of the day:")
        await self._check_warehouses()
        await self._check_orders()
        await self._check_announcements()
        await self._check_alerts()

    async def _step(self, step: Step) -> None:
        self._echo(f"\n{step.at}  {step.text}")
        for number, call in enumerate(step.calls):
            # One after the other within the minute: the story says which order comes first.
            at = self._time(step.at) + timedelta(milliseconds=number)
            await (self._send_event(call, at) if call.is_event else self._send(call, at))
            if call.until is not None:
                await self._until(partial(self._order_is, call))
        for expected in step.after:
            await self._check_numbers(expected)

    async def _send(self, call: Call, at: datetime) -> None:
        body = call.body if call.kind.startswith("policy.") else {**call.body, "occurred_at": at.isoformat()}
        method, path, raw, content = request_of(call.kind, body)
        answer = await self._client.call(method, path, raw, content)
        code = orjson.loads(answer.body).get("code") if answer.status >= 400 else None
        if (answer.status, code) != (call.status, call.code):
            self._differs(f"{method} {path}", f"{call.status} {call.code or ''}", answer.summary())

    async def _send_event(self, call: Call, at: datetime) -> None:
        """Send it, and wait until it is decided."""
        self._events += 1
        event = {"type": call.kind, "id": f"event-{self._events}", "occurred_at": at.isoformat(), **call.body}
        if call.eta is not None:
            event["eta"] = self._time(call.eta).isoformat()
        order_id = str(event.get("order_id", ""))
        before = (await self._client.order(order_id) if order_id else None) or Order("", "", "", (), 0)
        await self._client.call("POST", "/v1/events", orjson.dumps(event) + b"\n", NDJSON, expected=(202,))

        async def is_decided() -> bool:
            if order_id:
                order = await self._client.order(order_id)
                return order is not None and order.sequence > before.sequence
            movement = await self._client.movement(event["warehouse"], event["id"])
            return movement is not None and datetime.fromisoformat(movement.occurred_at) == _whole_ms(at)

        if not await self._until(is_decided):
            self._differs(f"{call.kind} {event['id']} {order_id}", "an effect", f"none in {WAIT_SECONDS_MAX:.0f} s")

    async def _order_is(self, call: Call) -> bool:
        order = await self._client.order(call.body["order_id"])
        return order is not None and order.state == call.until

    async def _check_numbers(self, expected: Numbers) -> None:
        found: list[Numbers] = []

        async def is_as_expected() -> bool:
            stock = await self._get(f"/v1/stock/{expected.sku}")
            channels = tuple(_symbol(stock["channels"].get(name)) for name in CHANNELS)
            found[:] = [Numbers(expected.sku, tuple(stock[name] for name in COUNTERS), channels)]
            return found[0] == expected

        holds = await self._until(is_as_expected)
        self._echo(_row((expected.sku, *expected.counters, *expected.channels)) + ("  ✓" if holds else "  ✗"))
        if not holds:
            self.differences += 1
            self._echo(_row(("  found", *found[0].counters, *found[0].channels)))

    async def _check_warehouses(self) -> None:
        names = ("on_hand", "committed", "available", "damaged")
        for (sku, warehouse), expected in WAREHOUSES.items():
            stock = (await self._get(f"/v1/stock/{sku}"))["warehouses"].get(warehouse, {})
            self._compare(
                f"{sku} at {warehouse}",
                dict(zip(names, expected, strict=True)),
                {name: stock.get(name) for name in names},
            )

    async def _check_orders(self) -> None:
        for state, text in ORDERS.items():
            ids = text.split()
            found = [order.state if (order := await self._client.order(each)) else None for each in ids]
            self._compare(f"orders {state}", dict.fromkeys(ids, state), dict(zip(ids, found, strict=True)))

    async def _check_announcements(self) -> None:
        items = {item["id"]: item for item in (await self._get("/v1/expected"))["items"]}
        for id, expected in ANNOUNCEMENTS.items():
            item = items.get(id, {"lines": [{}]})
            found = {**item["lines"][0], **item}
            self._compare(id, expected, {name: found.get(name) for name in expected})
        self._compare("pools", [], (await self._get("/v1/pools"))["items"])

    async def _check_alerts(self) -> None:
        async def are_there() -> bool:
            return self._alerts.keys() >= ALERTS.keys()

        topic = TopicReader(self._kafka, self._app_id, {"alerts": decoding_handler(AlertView, self._take_alert)})
        try:
            await topic.start()
            await self._until(are_there)
        finally:
            await topic.stop()
        for alert, units in ALERTS.items():
            self._compare(f"alert {' '.join(alert)}", units, self._alerts.pop(alert, None))
        types = {type for type, _, _ in ALERTS}
        self._compare("other alerts of these types", [], [alert for alert in self._alerts if alert[0] in types])

    def _take_alert(self, alert: AlertView) -> None:
        self._alerts[alert.type, alert.sku, alert.order_id or " ".join(sorted(alert.orders))] = alert.quantity

    def _compare(self, what: str, expected: Any, found: Any) -> None:
        if expected != found:
            self._differs(what, _text(expected), _text(found))
        else:
            self._echo(f"  ✓ {what}: {_text(expected)}")

    def _differs(self, what: str, expected: str, found: str) -> None:
        self.differences += 1
        self._echo(f"  ✗ {what}: expected {expected}, found {found}")

    def _time(self, at: str) -> datetime:
        hours, minutes = map(int, at.split(":"))
        return self._begin + timedelta(hours=hours, minutes=minutes)

    async def _get(self, path: str) -> Any:
        return orjson.loads((await self._client.call("GET", quote(path), expected=(200, 404))).body)

    async def _until(self, holds: Callable[[], Awaitable[bool]]) -> bool:
        """Wait until it holds, for a bounded time; whether it does."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + WAIT_SECONDS_MAX
        while not await holds():
            if clock() > deadline:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True


def _symbol(offer: dict[str, Any] | None) -> str:
    return "?" if offer is None else _SYMBOLS.get(offer["mode"], offer["mode"]).format(**offer)


def _row(cells: tuple[Any, ...]) -> str:
    first, *others = (str(cell).replace("_", " ") for cell in cells)
    return first.ljust(_WIDTHS[0]) + "".join(cell.rjust(width) for cell, width in zip(others, _WIDTHS[1:], strict=True))


def _text(value: Any) -> str:
    if isinstance(value, dict):
        values = set(value.values())
        names = value if len(values) == 1 else (f"{name} {units}" for name, units in value.items())
        return ", ".join(map(str, names)).replace("_", " ")
    return "none" if not value else str(value)


def _whole_ms(at: datetime) -> datetime:
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
