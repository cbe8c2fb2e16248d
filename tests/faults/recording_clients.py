"""The clients of the system under test: one for each transport, all recording.

In: an event. Out: the status of the answer, or None without one; and the records of both.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, Self

import orjson

from stocktide.loadtest.client.events import Event
from stocktide.loadtest.oracle.history import InputTransport, Response
from stocktide.loadtest.run.recording import RecordingHttpClient, RecordingProducer, RequestRecorder
from tests.faults.scenarios import WAREHOUSES

# Lines of NDJSON are sent together at this interval, as a channel's connector does.
GATHER_SECONDS = 0.1
LINES_MAX = 500
# The maximum time after which a client disconnects without an answer.
HANG_UP_MS_MAX = 20


class _Line(NamedTuple):
    number: int
    text: bytes
    answer: asyncio.Future[Response | str]


class RecordingClients:
    """A client for each transport. `apis` are addresses, used in turn; each of them may be down."""

    def __init__(self, recorder: RequestRecorder, apis: Sequence[str], kafka: str, app_id: str) -> None:
        self._recorder = recorder
        self._http = RecordingHttpClient(apis, recorder)
        self._kafka = RecordingProducer(kafka, app_id, recorder)
        self._rng = random.Random()
        self._lines: asyncio.Queue[_Line] = asyncio.Queue()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._http)
        await self._stack.enter_async_context(self._kafka)
        self._stack.callback(asyncio.create_task(self._send_lines()).cancel)
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.aclose()

    async def ask(
        self, door: InputTransport, kind: str, event: Event, raw: bytes | None, *, hangs_up: bool = False
    ) -> int | None:
        """Send an event, and wait for the answer: its status, None without one. `raw` is sent instead of the event."""
        if door == "ndjson":
            answer = await self._ask_by_line(kind, event, raw)
        elif raw is not None:
            answer = await self._ask_bytes(door, event["key"], raw)
        elif door == "kafka":
            answer = await self._kafka.ask(kind, event)
        else:
            answer = await self._http.ask(kind, event, self._rng.randint(0, HANG_UP_MS_MAX) if hangs_up else None)
        return answer.status if isinstance(answer, Response) else None

    async def _ask_bytes(self, door: InputTransport, key: str, raw: bytes) -> Response | str:
        if door == "http":
            return await self._http.ask_bytes(raw)
        return await self._kafka.ask_bytes("movements" if key in WAREHOUSES else "orders", key.encode(), raw)

    async def _ask_by_line(self, kind: str, event: Event, raw: bytes | None) -> Response | str:
        number = self._recorder.request("ndjson", kind, event if raw is None else {})
        text = orjson.dumps({"type": kind, **event}) if raw is None else raw
        line = _Line(number, text, asyncio.get_running_loop().create_future())
        self._lines.put_nowait(line)
        return await line.answer

    async def _send_lines(self) -> None:
        while True:
            lines = [await self._lines.get()]
            await asyncio.sleep(GATHER_SECONDS)
            while not self._lines.empty() and len(lines) < LINES_MAX:
                lines.append(self._lines.get_nowait())
            answers = await self._http.send_lines([(line.number, line.text) for line in lines])
            for line, answer in zip(lines, answers, strict=True):
                # A scenario that was cancelled awaits it no more.
                if not line.answer.done():
                    line.answer.set_result(answer)
