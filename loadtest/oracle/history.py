"""The history of a run: requests, responses, updates and rows, as records.

In: records, appended to a file as NDJSON during the run. Out: the same records in the same order. Every record has
`at`: when it was recorded, in ms since the epoch by `HistoryClock`. JSON of the contract keeps the contract's own
names; fields that no checker uses are omitted.

Rules for writers:

- A `Request` is written before the request or event is sent; each attempt has its own.
- Each `Request` is followed by one `Response` or one `NoResponse`. A recorder that dies leaves some without either:
  they count as without a response.
- `RunQuiesced` is written when everything is healed, all input is consumed and the feeds are quiet; reads that follow
  it are the final state. Subscribers continue until then.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

import msgspec
from msgspec import Struct, field

from stocktide.loadtest.client.contract import (
    AlertView,
    ChannelUpdateView,
    DeadLetterView,
    MovementView,
    OrderView,
    StockView,
)
from stocktide.streams.contract.documents import PublishedPolicy

# Records buffered before a write: a few ms of a run at full load.
RECORDS_PER_WRITE = 500
# Bytes read at a time: thousands of records, little memory.
READ_BYTES = 4 * 1024 * 1024

InputTransport = Literal["http", "ndjson", "kafka"]


class HistoryClock:
    """A clock in ms since the epoch that never goes back: wall time at the start plus monotonic time since.

    Processes of one machine that share an `offset`, in s, share the clock.
    """

    def __init__(self, offset: float | None = None) -> None:
        self.offset = time.time() - time.monotonic() if offset is None else offset

    def now(self) -> int:
        return int((self.offset + time.monotonic()) * 1000)


class _Record(Struct, frozen=True, omit_defaults=True, tag_field="record"):
    at: int


class RunStarted(_Record, frozen=True, omit_defaults=True, tag="began"):
    app_id: str
    seed: int = 0


class Request(_Record, frozen=True, omit_defaults=True, tag="asked"):
    """A request or event is about to be sent. `number` is unique in the run.

    `kind` is the type of the input event, by any transport: `order.placed`, `order.paid`, `stock.received`, …; or
    `order.approved` and `order.unapproved` (the decision on a forced order, by HTTP; `event`: order_id, actor); or
    `policy.put` and `policy.delete` (`event`: channel, sku, policy); or `bytes` for what is no event of the contract.
    `event` is the event as the contract writes it: by HTTP the body, with the `order_id` of the path added and without
    what was not sent (an `id`).
    """

    number: int
    door: InputTransport
    kind: str
    event: dict[str, Any] = field(default_factory=dict)


class Response(_Record, frozen=True, omit_defaults=True, tag="told"):
    """The response to `number`. An event that Kafka acknowledged has status 202 and its topic, partition and offset.

    `order` is the order of the answer, also of a rejection that shows one; `code` is that of a problem, or of a
    rejected line of NDJSON (`status` is then 422). With a status of 500 or more the command may have been applied or
    not.
    """

    number: int
    status: int
    code: str | None = None
    replayed: bool = False
    order: OrderView | None = None
    topic: str | None = None
    partition: int = -1
    offset: int = -1


class NoResponse(_Record, frozen=True, omit_defaults=True, tag="silent"):
    """No response to `number`: a broken connection, a timeout, or the client disconnected. The command may have been
    applied."""

    number: int
    why: str = ""


class Subscribed(_Record, frozen=True, omit_defaults=True, tag="subscribed"):
    """A subscriber is connected (again). `subscriber` is unique and reads one channel; `asked_at` is before its request
    was sent, 0 if unknown."""

    subscriber: str
    channel: str
    last_event_id: str | None = None
    asked_at: int = 0


class UpdateReceived(_Record, frozen=True, omit_defaults=True, tag="saw"):
    """A subscriber received an update."""

    subscriber: str
    update: ChannelUpdateView


class Synced(_Record, frozen=True, omit_defaults=True, tag="synced"):
    """A subscriber received `synced`: it has the whole channel."""

    subscriber: str


class Unsubscribed(_Record, frozen=True, omit_defaults=True, tag="unsubscribed"):
    """A subscriber lost its connection, or ended it for good (`left`)."""

    subscriber: str
    why: str = ""
    left: bool = False


class _Row(_Record, frozen=True, omit_defaults=True):
    partition: int
    offset: int


class OrderPublished(_Row, frozen=True, omit_defaults=True, tag="reservations"):
    order: OrderView


class MovementPublished(_Row, frozen=True, omit_defaults=True, tag="adjustments"):
    movement: MovementView


class StockPublished(_Row, frozen=True, omit_defaults=True, tag="stock"):
    stock: StockView


class ChannelUpdatePublished(_Row, frozen=True, omit_defaults=True, tag="channel-stock"):
    update: ChannelUpdateView


class PolicyPublished(_Row, frozen=True, omit_defaults=True, tag="policies"):
    policy: PublishedPolicy


class DeadLetterPublished(_Row, frozen=True, omit_defaults=True, tag="dead-letters"):
    letter: DeadLetterView


class AlertPublished(_Row, frozen=True, omit_defaults=True, tag="alerts"):
    alert: AlertView


class UnreadableRow(_Row, frozen=True, omit_defaults=True, tag="unreadable"):
    """A row of a public topic that violates the contract."""

    topic: str
    why: str


class _Read(_Record, frozen=True, omit_defaults=True):
    asked_at: int


class ReadOrder(_Read, frozen=True, omit_defaults=True, tag="read-order"):
    """GET of an order; None if it was unknown (404)."""

    order_id: str
    order: OrderView | None = None


class ReadStock(_Read, frozen=True, omit_defaults=True, tag="read-stock"):
    """GET of a SKU; None if it was unknown (404)."""

    sku: str
    stock: StockView | None = None


class ReadChannel(_Read, frozen=True, omit_defaults=True, tag="read-channel"):
    """GET of one page of a channel's stock; `next` is None on the last page."""

    channel: str
    items: tuple[ChannelUpdateView, ...] = ()
    next: str | None = None


class ReadMovement(_Read, frozen=True, omit_defaults=True, tag="read-movement"):
    """GET of a movement; None if it was unknown (404)."""

    warehouse: str
    id: str
    movement: MovementView | None = None


class ReadPolicy(_Read, frozen=True, omit_defaults=True, tag="read-policy"):
    """GET of a policy level: its `own` fields, None if the level has none."""

    channel: str
    sku: str | None = None
    own: dict[str, Any] | None = None


class FaultRecord(_Record, frozen=True, omit_defaults=True, tag="fault"):
    """A fault begins or is healed."""

    name: str
    stage: Literal["begun", "healed"] = "begun"
    detail: str = ""


class TopicsRead(_Record, frozen=True, tag="topics-read"):
    """All rows of the topics that were fetched by now are recorded."""


class RunQuiesced(_Record, frozen=True, omit_defaults=True, tag="rested"):
    """Everything is healed, consumed and quiet: later reads are the final state."""


HistoryRecord = (
    RunStarted
    | Request
    | Response
    | NoResponse
    | Subscribed
    | UpdateReceived
    | Synced
    | Unsubscribed
    | OrderPublished
    | MovementPublished
    | StockPublished
    | ChannelUpdatePublished
    | PolicyPublished
    | DeadLetterPublished
    | AlertPublished
    | UnreadableRow
    | ReadOrder
    | ReadStock
    | ReadChannel
    | ReadMovement
    | ReadPolicy
    | FaultRecord
    | TopicsRead
    | RunQuiesced
)

_RECORD: msgspec.json.Decoder[HistoryRecord] = msgspec.json.Decoder(HistoryRecord)
_ENCODER = msgspec.json.Encoder()


class _ResponseBody(Struct, frozen=True):
    """The fields of an answer that checkers use: an order, or a problem that may show one."""

    code: str | None = None
    replayed: bool = False
    order: OrderView | None = None


_RESPONSE_BODY = msgspec.json.Decoder(_ResponseBody)
_ORDER = msgspec.json.Decoder(OrderView)


# In the document of a request for approval, which is no order.
_REQUEST = b'"requested_by":'


def decode_response(at: int, number: int, status: int, raw: bytes) -> Response:
    """The record of an HTTP answer. Raises `msgspec.DecodeError` if the body violates the contract."""
    body = _RESPONSE_BODY.decode(raw) if raw and status != 204 else _ResponseBody()
    order = body.order
    if status in (200, 201) and b'"order_id"' in raw and _REQUEST not in raw:
        order = _ORDER.decode(raw)
    return Response(at, number, status, body.code, body.replayed, order)


class HistoryFile:
    """Appends records to a file; they are in the file after `flush` or `close`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")
        self._buffer: list[HistoryRecord] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, record: HistoryRecord) -> None:
        self._buffer.append(record)
        if len(self._buffer) >= RECORDS_PER_WRITE:
            self.flush()

    def flush(self) -> None:
        """Write the buffered records."""
        self._file.write(_ENCODER.encode_lines(self._buffer))
        self._file.flush()
        self._buffer.clear()

    def close(self) -> None:
        if not self._file.closed:
            self.flush()
            self._file.close()


def read_history(path: Path) -> Iterator[HistoryRecord]:
    """The records of a file. An incomplete last line, left by a killed recorder, is skipped.

    Raises `msgspec.DecodeError` for any other invalid line.
    """
    with path.open("rb") as file:
        rest = b""
        while chunk := file.read(READ_BYTES):
            whole, _, rest = (rest + chunk).rpartition(b"\n")
            yield from decode_lines(whole)


def decode_lines(lines: bytes) -> Iterator[HistoryRecord]:
    """The records of whole lines. Raises `msgspec.DecodeError`."""
    for line in lines.splitlines():
        yield _RECORD.decode(line)
