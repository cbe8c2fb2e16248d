"""Events over HTTP, for those who do not speak Kafka: any number of them as NDJSON, or one movement as JSON.

In: lines, each an input event of the contract. Out: 202 once Kafka has those that are well formed, and for each of the
others its line, a code, and the path of what is wrong. What the ledger makes of them is read elsewhere.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from aiohttp import web
from msgspec import Struct

from stocktide.api import problems
from stocktide.api.bodies import read_body
from stocktide.api.event_producer import EventProducer, KeyValue
from stocktide.streams.contract.events import BOM, Event, Malformed, Movement, decode_event, decode_movement
from stocktide.streams.contract.times import ms_of, now_ms
from stocktide.streams.topics import MOVEMENTS, ORDERS

# One call: thousands of ordinary events. The bound of a single event holds for each line besides.
CALL_BYTES_MAX = 8 * 1024 * 1024
CALL_LINES_MAX = 20_000
# Lines decoded between two rests of the loop, about 2 ms: other requests wait no longer.
LINES_PER_TURN_MAX = 200


class _Sorted(Struct):
    orders: list[KeyValue]
    movements: list[KeyValue]
    rejected: list[dict[str, Any]]


class EventHandlers:
    """The handlers of `POST /v1/events` and `POST /v1/movements`. `request_seconds` is Kafka's time to take them;
    `future_ms` is how far ahead of this clock an event may be dated: the ledger, which decides, answers nobody here."""

    def __init__(self, event_producer: EventProducer, app_id: str, request_seconds: float, future_ms: int) -> None:
        self._inbox = event_producer
        self._request_seconds = request_seconds
        self._future_ms = future_ms
        self._orders = ORDERS.full_name(app_id)
        self._movements = MOVEMENTS.full_name(app_id)

    async def post(self, request: web.Request) -> web.Response:
        """`POST /v1/events`: empty lines are skipped, and counted as lines."""
        body = await read_body(request, CALL_BYTES_MAX)
        if isinstance(body, web.Response):
            return body
        if (lines := body.count(b"\n")) > CALL_LINES_MAX:
            detail = f"{lines} lines; at most {CALL_LINES_MAX} a call"
            return problems.from_malformed(Malformed("too_many_lines", detail))
        sorted_ = await _sort(body, self._future_ms)
        deadline = asyncio.get_running_loop().time() + self._request_seconds
        if sorted_.orders:
            await self._inbox.write(self._orders, sorted_.orders, deadline)
        if sorted_.movements:
            await self._inbox.write(self._movements, sorted_.movements, deadline)
        accepted = len(sorted_.orders) + len(sorted_.movements)
        return problems.json_response({"accepted": accepted, "rejected": sorted_.rejected}, 202)

    async def post_movement(self, request: web.Request) -> web.Response:
        """`POST /v1/movements`: `Location` is where it will be told what the movement did."""
        body = await read_body(request)
        if isinstance(body, web.Response):
            return body
        movement = decode_movement(body)
        if isinstance(movement, Malformed):
            return problems.from_malformed(movement)
        if (wrong := _ahead(movement, self._future_ms)) is not None:
            return problems.from_malformed(wrong)
        deadline = asyncio.get_running_loop().time() + self._request_seconds
        await self._inbox.write(self._movements, [(movement.warehouse.encode(), body)], deadline)
        location = f"/v1/warehouses/{quote(movement.warehouse, safe='')}/movements/{quote(movement.id, safe='')}"
        taken = {"accepted": 1, "warehouse": movement.warehouse, "id": movement.id}
        return problems.json_response(taken, 202, {"Location": location})


async def _sort(body: bytes, future_ms: int) -> _Sorted:
    sorted_ = _Sorted([], [], [])
    for number, line in enumerate(body.split(b"\n"), start=1):
        if number % LINES_PER_TURN_MAX == 0:
            await asyncio.sleep(0)
        line = line.strip().removeprefix(BOM)
        if not line:
            continue
        event = decode_event(line)
        if not isinstance(event, Malformed):
            event = _ahead(event, future_ms) or event
        if isinstance(event, Malformed):
            rejected = {"line": number, "code": event.code, "detail": event.detail, "path": event.path}
            sorted_.rejected.append(rejected)
        elif isinstance(event, Movement):
            sorted_.movements.append((event.warehouse.encode(), line))
        else:
            sorted_.orders.append((event.order_id.encode(), line))
    return sorted_


def _ahead(event: Event, future_ms: int) -> Malformed | None:
    """What is wrong with an event that a clock that is wrong dated (rule 40)."""
    if ms_of(event.occurred_at) <= now_ms() + future_ms:
        return None
    detail = f"more than {future_ms // 1000} s ahead of this system's clock"
    return Malformed("occurred_in_future", detail, "occurred_at")
