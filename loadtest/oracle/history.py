"""The record of a run, kept outside of the system: what was asked, what every caller was told, what everyone saw.

In: records, appended to a file as NDJSON while the run goes on. Out: the same records, in the same order, as often as a
run is judged. Every record has `at`: when the tester knew it, in ms since the epoch by `HistoryClock`, which never goes
back. What the contract tells as JSON is kept under the contract's own names; what no promise speaks of is left out.

Rules for whoever writes one: - `Request` is written before the request or event is sent, and every attempt is an
`Request` of its own. - Each `Request` ends in one `Response` or one `NoResponse`. A tester that dies leaves some with
neither: they count as silent. - `RunQuiesced` is written once everything is healed, all input consumed and the feeds
are quiet; reads that follow it are the final state. Subscribers go on until then.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from heapq import merge
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import msgspec
from msgspec import Struct, field

from stocktide.loadtest.client.contract import (
    AlertView,
    ChannelUpdateView,
    DeadLetterView,
    MovementView,
    OrderView,
    PolicyView,
    StockView,
)

# Records kept back before a write: a few ms of a run at full load.
RECORDS_PER_WRITE = 500
# So much of a file at a time: thousands of records, little memory.
READ_BYTES = 4 * 1024 * 1024

InputTransport = Literal["http", "ndjson", "kafka"]


class HistoryClock:
    """ms since the epoch that never go back: wall time at the start, plus monotonic time since.

    Processes of one machine that share an `offset`, in s, share the clock.
    """

    def __init__(self, offset: float | None = None) -> None:
        self.offset = time.time() - time.monotonic() if offset is None else offset

    def now(self) -> int:
        """The time, in ms."""
        return int((self.offset + time.monotonic()) * 1000)


class _Record(Struct, frozen=True, omit_defaults=True, tag_field="record"):
    at: int


class RunStarted(_Record, frozen=True, omit_defaults=True, tag="began"):
    """The run begins."""

    app_id: str
    seed: int = 0


class Request(_Record, frozen=True, omit_defaults=True, tag="asked"):
    """A request or event is about to be sent. `number` is unique in the run.

    `kind` is the type of the input event, by whatever door: `order.placed`, `order.paid`, `stock.received`, …; or
    `policy.put` and `policy.delete` (`event`: channel, sku, policy); or `bytes` for what is no event of the contract.
    `event` is the event as the contract writes it: by HTTP the body, with what the path says (`order_id`) put in and
    without what was not sent (an `id`).
    """

    number: int
    door: InputTransport
    kind: str
    event: dict[str, Any] = field(default_factory=dict)


class Response(_Record, frozen=True, omit_defaults=True, tag="told"):
    """The answer to `number`. An event that Kafka acknowledged was told 202, and where it lies.

    `order` is the order of the answer, also of a refusal that shows one; `code` that of a problem, or of a rejected
    line of NDJSON (`status` is then 422). A status of 500 or more promises nothing: it may have happened or not.
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
    """No answer to `number`: the connection broke, the time was over, the client hung up. It may have happened."""

    number: int
    why: str = ""


class Subscribed(_Record, frozen=True, omit_defaults=True, tag="subscribed"):
    """A subscriber is connected (again). `subscriber` is unique and reads one channel; `asked_at` is before its request
    was sent, 0 where that is not known."""

    subscriber: str
    channel: str
    last_event_id: str | None = None
    asked_at: int = 0


class UpdateReceived(_Record, frozen=True, omit_defaults=True, tag="saw"):
    """A subscriber got an update."""

    subscriber: str
    update: ChannelUpdateView


class Synced(_Record, frozen=True, omit_defaults=True, tag="synced"):
    """A subscriber was told that it has everything."""

    subscriber: str


class Unsubscribed(_Record, frozen=True, omit_defaults=True, tag="unsubscribed"):
    """A subscriber lost its connection, or left (`left`: for good)."""

    subscriber: str
    why: str = ""
    left: bool = False


class _Row(_Record, frozen=True, omit_defaults=True):
    partition: int
    offset: int


class OrderPublished(_Row, frozen=True, omit_defaults=True, tag="reservations"):
    """A row of `reservations`."""

    order: OrderView


class MovementPublished(_Row, frozen=True, omit_defaults=True, tag="adjustments"):
    """A row of `adjustments`."""

    movement: MovementView


class StockPublished(_Row, frozen=True, omit_defaults=True, tag="stock"):
    """A row of `stock`."""

    stock: StockView


class ChannelUpdatePublished(_Row, frozen=True, omit_defaults=True, tag="channel-stock"):
    """A row of `channel-stock`."""

    update: ChannelUpdateView


class PolicyPublished(_Row, frozen=True, omit_defaults=True, tag="policies"):
    """A row of `policies`."""

    policy: PolicyView


class DeadLetterPublished(_Row, frozen=True, omit_defaults=True, tag="dead-letters"):
    """A row of `dead-letters`."""

    letter: DeadLetterView


class AlertPublished(_Row, frozen=True, omit_defaults=True, tag="alerts"):
    """A row of `alerts`."""

    alert: AlertView


class UnreadableRow(_Row, frozen=True, omit_defaults=True, tag="unreadable"):
    """A row of a public topic that is not what the contract says."""

    topic: str
    why: str


class _Read(_Record, frozen=True, omit_defaults=True):
    asked_at: int


class ReadOrder(_Read, frozen=True, omit_defaults=True, tag="read-order"):
    """GET of an order; None where it was unknown (404)."""

    order_id: str
    order: OrderView | None = None


class ReadStock(_Read, frozen=True, omit_defaults=True, tag="read-stock"):
    """GET of a SKU; None where it was unknown (404)."""

    sku: str
    stock: StockView | None = None


class ReadChannel(_Read, frozen=True, omit_defaults=True, tag="read-channel"):
    """GET of one page of a channel's stock; `next` None: it was the last one."""

    channel: str
    items: tuple[ChannelUpdateView, ...] = ()
    next: str | None = None


class ReadMovement(_Read, frozen=True, omit_defaults=True, tag="read-movement"):
    """GET of a movement; None where it was unknown (404)."""

    warehouse: str
    id: str
    movement: MovementView | None = None


class ReadPolicy(_Read, frozen=True, omit_defaults=True, tag="read-policy"):
    """GET of a policy level: its `own` fields, None where the level has none."""

    channel: str
    sku: str | None = None
    own: dict[str, Any] | None = None


class FaultRecord(_Record, frozen=True, omit_defaults=True, tag="fault"):
    """A fault begins or is healed; for the reader of the evidence, no checker looks at it."""

    name: str
    stage: Literal["begun", "healed"] = "begun"
    detail: str = ""


class RunQuiesced(_Record, frozen=True, omit_defaults=True, tag="rested"):
    """Everything is healed, consumed and quiet: what is read from here on is final."""


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
    | RunQuiesced
)

_RECORD: msgspec.json.Decoder[HistoryRecord] = msgspec.json.Decoder(HistoryRecord)
_ENCODER = msgspec.json.Encoder()


class _Body(Struct, frozen=True):
    """An answer as far as promises speak of it: an order, or a problem that may show one."""

    code: str | None = None
    replayed: bool = False
    order: OrderView | None = None


_BODY = msgspec.json.Decoder(_Body)
_ORDER = msgspec.json.Decoder(OrderView)


def decode_response(at: int, number: int, status: int, body: bytes) -> Response:
    """The record of an HTTP answer to anything that is asked of an order, or to anything else.

    Raises `msgspec.DecodeError` where the body is not what the contract says.
    """
    said = _BODY.decode(body) if body and status != 204 else _Body()
    order = said.order
    if status in (200, 201) and b'"order_id"' in body:
        order = _ORDER.decode(body)
    return Response(at, number, status, said.code, said.replayed, order)


class HistoryFile:
    """Appends records to a file; what was added is in the file after `flush` or `close`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")
        self._kept: list[HistoryRecord] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, record: HistoryRecord) -> None:
        """Append one record."""
        self._kept.append(record)
        if len(self._kept) >= RECORDS_PER_WRITE:
            self.flush()

    def flush(self) -> None:
        """Write what was kept back."""
        self._file.write(_ENCODER.encode_lines(self._kept))
        self._file.flush()
        self._kept.clear()

    def close(self) -> None:
        """Flush and close."""
        if not self._file.closed:
            self.flush()
            self._file.close()


def read_history(path: Path) -> Iterator[HistoryRecord]:
    """The records of a file. Half a line at its end is what a killed tester leaves, and is passed over.

    Raises `msgspec.DecodeError` for any other line that is none.
    """
    with path.open("rb") as file:
        rest = b""
        while chunk := file.read(READ_BYTES):
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            for line in lines:
                yield _RECORD.decode(line)


def decode_lines(lines: bytes) -> Iterator[HistoryRecord]:
    """The records of whole lines. Raises `msgspec.DecodeError`."""
    for line in lines.splitlines():
        yield _RECORD.decode(line)


def merge_histories(histories: Iterable[Iterable[HistoryRecord]]) -> Iterator[HistoryRecord]:
    """Several testers' records as one history, in the order of their times."""
    return merge(*histories, key=attrgetter("at"))
