"""Input events over HTTP: any number of them as NDJSON, or one movement as JSON.

In: lines, each an input event of the contract. Out: 202 when Kafka has stored the well-formed ones, with the line, a
code and the field's path of each other line. The outcomes are read through other calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import web
from msgspec import Struct

from stocktide.api import problems
from stocktide.api.access.scopes import admit_event, check_movement
from stocktide.api.event_producer import InputEventProducer, KeyValue
from stocktide.api.requests import read_body
from stocktide.streams.contract.documents import EventsTaken, MovementTaken, RejectedLine, encode
from stocktide.streams.contract.events import BOM, Event, Malformed, Movement, decode_event, decode_movement
from stocktide.streams.contract.times import ms_of, now_ms
from stocktide.streams.topics import MOVEMENTS, ORDERS

# Thousands of ordinary events. The limit of a single event applies to each line as well.
CALL_BYTES_MAX = 8 * 1024 * 1024
CALL_LINES_MAX = 20_000
# Lines decoded before the loop runs other tasks, about 2 ms.
LINES_PER_TURN_MAX = 200
MOVEMENT_PATH = "/v1/warehouses/{warehouse}/movements/{id}"


class _ParsedLines(Struct):
    orders: list[KeyValue]
    movements: list[KeyValue]
    rejected: list[RejectedLine]


class EventHandlers:
    """The handlers of `POST /v1/events` and `POST /v1/movements`.

    `request_seconds` is the deadline of Kafka. `future_ms` limits how far an event may be dated ahead of this clock;
    the ledger has the same limit, but its refusal does not reach this client.
    """

    def __init__(self, event_producer: InputEventProducer, app_id: str, request_seconds: float, future_ms: int) -> None:
        self._event_producer = event_producer
        self._request_seconds = request_seconds
        self._future_ms = future_ms
        self._orders = ORDERS.full_name(app_id)
        self._movements = MOVEMENTS.full_name(app_id)

    async def post(self, request: web.Request) -> web.Response:
        """`POST /v1/events`; empty lines are skipped, but counted."""
        body = await read_body(request, CALL_BYTES_MAX)
        if isinstance(body, web.Response):
            return body
        if (lines := body.count(b"\n")) > CALL_LINES_MAX:
            detail = f"{lines} lines; at most {CALL_LINES_MAX} a call"
            return problems.from_malformed(Malformed("too_many_lines", detail))
        parsed = await _parse_lines(body, self._future_ms, partial(admit_event, request))
        deadline = asyncio.get_running_loop().time() + self._request_seconds
        if parsed.orders:
            await self._event_producer.write(self._orders, parsed.orders, deadline)
        if parsed.movements:
            await self._event_producer.write(self._movements, parsed.movements, deadline)
        accepted = len(parsed.orders) + len(parsed.movements)
        return problems.json_response(EventsTaken(accepted, parsed.rejected), 202)

    async def post_movement(self, request: web.Request) -> web.Response:
        """`POST /v1/movements`; `Location` is the path of the movement's effect."""
        body = await read_body(request)
        if isinstance(body, web.Response):
            return body
        movement = decode_movement(body)
        if isinstance(movement, Malformed):
            return problems.from_malformed(movement)
        if (error := _future_error(movement, self._future_ms)) is not None:
            return problems.from_malformed(error)
        if (refused := await check_movement(request, movement)) is not None:
            return refused
        deadline = asyncio.get_running_loop().time() + self._request_seconds
        await self._event_producer.write(self._movements, [(movement.warehouse.encode(), body)], deadline)
        headers = problems.location(MOVEMENT_PATH, warehouse=movement.warehouse, id=movement.id)
        return problems.json_response(MovementTaken(1, movement.warehouse, movement.id), 202, headers)


async def _parse_lines(
    body: bytes, future_ms: int, admit: Callable[[Event], Awaitable[Event | Malformed]]
) -> _ParsedLines:
    parsed = _ParsedLines([], [], [])
    for number, line in enumerate(body.split(b"\n"), start=1):
        if number % LINES_PER_TURN_MAX == 0:
            await asyncio.sleep(0)
        line = line.strip().removeprefix(BOM)
        if not line:
            continue
        event = given = decode_event(line)
        if not isinstance(given, Malformed):
            event = _future_error(given, future_ms) or await admit(given)
        if event is not given and not isinstance(event, Malformed):
            line = encode(event)
        if isinstance(event, Malformed):
            parsed.rejected.append(RejectedLine(number, event.code, event.detail, event.path))
        elif isinstance(event, Movement):
            parsed.movements.append((event.warehouse.encode(), line))
        else:
            parsed.orders.append((event.order_id.encode(), line))
    return parsed


def _future_error(event: Event, future_ms: int) -> Malformed | None:
    """The error of an event that is dated too far ahead (rule 40)."""
    if ms_of(event.occurred_at) <= now_ms() + future_ms:
        return None
    detail = f"more than {future_ms // 1000} s ahead of this system's clock"
    return Malformed("occurred_in_future", detail, "occurred_at")
