"""What one endpoint has to get from one partition: the newest states that it has not acknowledged.

In: rows of the partition, in order; acknowledgements. Out: batches with their ids. A queue is bounded by the number of
SKUs; that of orders by ORDERS_PENDING_MAX, beyond which its rows are read again later.
"""

from __future__ import annotations

import hashlib
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Literal, get_args

import msgspec
from msgspec import Struct

from stocktide.streams.contract.documents import encode, order_document
from stocktide.streams.contract.redaction import without_warehouses
from stocktide.streams.contract.times import now_ms
from stocktide.streams.webhooks.definition import Webhook

# Standard Webhooks: under 20 KB. An item is never divided: one that is larger goes alone.
BODY_BYTES_MAX = 20_000
# A day of orders of a large channel does not fit into memory, but it is in Kafka.
ORDERS_PENDING_MAX = 5_000
# Rows before the first one that is to be sent, read to know the orders that a restarted worker publishes once more:
# some seconds of a large channel.
ORDERS_REMEMBERED = 5_000

Kind = Literal["stock", "orders"]
# What an item is: name, version, checksum of its content.
ItemId = tuple[str, int, int]


class Item(Struct, frozen=True, gc=False):
    """The newest state of a SKU or an order, as it is sent."""

    name: str
    version: int
    checksum: int
    value: bytes
    since_ms: int
    offset: int = 0

    @property
    def id(self) -> ItemId:
        """What a retry of the same content has in common."""
        return self.name, self.version, self.checksum


class Acknowledged(Struct, frozen=True, gc=False):
    """A row of `webhook-acks` of a SKU: the state that an endpoint has taken, in an epoch of its webhook."""

    epoch: str
    version: int
    checksum: int


class Progress(Struct, frozen=True):
    """A row of `webhook-acks` of a queue: the batch that was sent last, and the next offset of `reservations` (-1 for
    stock). A successor sends again, with the same id, what of it is still the newest."""

    epoch: str
    sent: tuple[ItemId, ...] = ()
    next: int = -1


class Batch(Struct, frozen=True):
    """Items of one call. `id` is that of `sent`, the items of its first attempt, in the same epoch, whoever sends it;
    a retry leaves out those that have changed since."""

    id: str
    body: bytes
    items: tuple[Item, ...]
    sent: tuple[ItemId, ...]


class _Update(Struct, gc=False):
    version: int


class _OrderHead(Struct, gc=False):
    channel: str
    sequence: int
    restated: bool = False


_decode_update = msgspec.json.Decoder(_Update).decode
_decode_order = msgspec.json.Decoder(_OrderHead).decode


class Queue(ABC):
    """The pending items of one kind, in the order in which they are sent."""

    kind: Kind

    def __init__(self, webhook: Webhook, partition: int, progress: Progress | None) -> None:
        self.webhook = webhook
        self.partition = partition
        self._pending: dict[str, Item] = {}
        self.progress = _continued(progress, webhook.epoch)
        # Everything that the partition had when the queue was made was offered: an item may be sent.
        self.ready = False

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def since_ms(self) -> int:
        """Since when the oldest item is pending; 0 if there is none."""
        return next((item.since_ms for item in self._pending.values()), 0)

    def begin(self) -> None:
        """Everything that the partition had when the queue was made was offered."""
        self.ready = True

    def forget(self) -> list[str]:
        """The second parts of keys of `webhook-acks` whose rows say nothing any more, once each."""
        return []

    def next_batch(self) -> Batch | None:
        """The batch that is to be sent now, None if there is none: what is still the newest of the one sent last, under
        its id, so that a receiver that took it without our knowing can skip it; else the items that are first."""
        if not self.ready or not self._pending:
            return None
        again = ((self._pending.get(id_[0]), id_) for id_ in self.progress.sent)
        left = tuple(item for item, id_ in again if item is not None and item.id == id_)
        # Its parts must not be divided among several calls of one id: after a smaller `batch` was defined, it is new.
        if left and len(left) <= self.webhook.batch:
            return self._make_batch(left, self.progress.sent)
        first = tuple(self._first_items())
        return self._make_batch(first, tuple(item.id for item in first))

    def sending(self, batch: Batch) -> Progress | None:
        """The row to be written before the batch is sent; None if it is the one that is there."""
        if self.progress.sent == batch.sent:
            return None
        self.progress = msgspec.structs.replace(self.progress, sent=batch.sent)
        return self.progress

    def acknowledge(self, batch: Batch) -> Iterator[tuple[str, bytes]]:
        """Take out the items that have not changed since; gives rows of `webhook-acks`, by the key's second part."""
        for item in batch.items:
            held = self._pending.get(item.name)
            if held is not None and held.id == item.id:
                del self._pending[item.name]
        yield from self._acknowledged(batch)

    @abstractmethod
    def _acknowledged(self, batch: Batch) -> Iterator[tuple[str, bytes]]:
        """The rows that say that the endpoint has taken a batch."""

    def _first_items(self) -> Iterator[Item]:
        size = 0
        for count, item in enumerate(self._pending.values()):
            size += len(item.value) + 1
            if count and (count >= self.webhook.batch or size > BODY_BYTES_MAX - self._head_bytes):
                return
            yield item

    @property
    def _head_bytes(self) -> int:
        return len(_body(self.kind, self.webhook.channel, ()))

    def _make_batch(self, items: tuple[Item, ...], sent: tuple[ItemId, ...]) -> Batch:
        content = [self.webhook.name, self.webhook.epoch, self.partition, self.kind, sorted(sent)]
        # Hexadecimal: an id has no dot.
        id_ = f"msg_{hashlib.sha256(encode(content)).hexdigest()[:32]}"
        return Batch(id_, _body(self.kind, self.webhook.channel, items), items, sent)


class StockQueue(Queue):
    """The newest channel update of each SKU, by what the endpoint has acknowledged. Frequent changes do not move an
    item behind others."""

    kind: Kind = "stock"

    def __init__(
        self,
        webhook: Webhook,
        partition: int,
        progress: Progress | None = None,
        acknowledged: Iterable[tuple[str, Acknowledged]] = (),
    ) -> None:
        super().__init__(webhook, partition, progress)
        rows = list(acknowledged)
        self._acknowledged_ids = {sku: (row.version, row.checksum) for sku, row in rows if row.epoch == webhook.epoch}
        # SKUs that have a row, until the partition shows that they are still there; then those that are not.
        self._unseen = {sku for sku, _ in rows}
        self._gone: set[str] = set()

    def begin(self) -> None:
        """See Queue."""
        super().begin()
        self._gone |= self._unseen
        self._unseen.clear()

    def forget(self) -> list[str]:
        """See Queue."""
        gone, self._gone = self._gone, set()
        for sku in gone:
            self._acknowledged_ids.pop(sku, None)
        return sorted(gone)

    def offer(self, sku: str, value: bytes | None, offset: int = 0) -> None:
        """The next row of the webhook's channel; None removes the SKU. Raises MsgspecError."""
        if value is None:
            self._pending.pop(sku, None)
            if self._acknowledged_ids.pop(sku, None) is not None:
                self._gone.add(sku)
            return
        if not self.webhook.takes(sku):
            return
        self._unseen.discard(sku)
        self._gone.discard(sku)
        held = self._pending.get(sku)
        since = held.since_ms if held is not None else now_ms()
        item = Item(sku, _decode_update(value).version, zlib.crc32(value), value, since, offset)
        known = (held.version, held.checksum) if held is not None else self._acknowledged_ids.get(sku)
        if _is_news((item.version, item.checksum), known):
            self._pending[sku] = item

    def _acknowledged(self, batch: Batch) -> Iterator[tuple[str, bytes]]:
        for item in batch.items:
            self._acknowledged_ids[item.name] = (item.version, item.checksum)
            yield item.name, encode(Acknowledged(self.webhook.epoch, item.version, item.checksum))


class OrderQueue(Queue):
    """The newest document of each order that changed from an offset on: where the endpoint has got to, or `begin`. In
    the order of their rows, so that all before the first one that is pending was taken."""

    kind: Kind = "orders"

    def __init__(
        self, webhook: Webhook, partition: int, begin: int, end: int, progress: Progress | None = None
    ) -> None:
        super().__init__(webhook, partition, progress)
        # A topic may be shorter than it was, after its content was lost.
        if not 0 <= self.progress.next <= end:
            self.progress = msgspec.structs.replace(self.progress, next=min(begin, end))
        # Rows before it were taken: they are only remembered.
        self._begin = self.progress.next
        # The offset of the next row that is read, and whether rows were left out because the queue was full.
        self.next = max(0, self._begin - ORDERS_REMEMBERED)
        self.behind = False
        # The newest sequence and checksum of the orders that changed last.
        self._known: dict[str, tuple[int, int]] = {}

    def offer(self, order_id: str, value: bytes | None, offset: int) -> None:
        """The next row of the partition, of any channel. Raises MsgspecError."""
        if offset < self.next or self.behind:
            return
        if len(self._pending) >= ORDERS_PENDING_MAX:
            self.behind = True
            return
        self.next = offset + 1
        if value is None:
            return
        head = _decode_order(value)
        if head.channel != self.webhook.channel or head.restated:
            return
        document = order_document(value)
        if not self.webhook.with_warehouses:
            document = without_warehouses(document)
        id_ = head.sequence, zlib.crc32(document)
        known = self._known.pop(order_id, None)
        self._known[order_id] = id_ if _is_news(id_, known) else known or id_
        if len(self._known) > ORDERS_REMEMBERED:
            del self._known[next(iter(self._known))]
        if offset >= self._begin and _is_news(id_, known):
            held = self._pending.pop(order_id, None)
            since = held.since_ms if held is not None else now_ms()
            self._pending[order_id] = Item(order_id, *id_, document, since, offset)

    @property
    def since_ms(self) -> int:
        """See Queue."""
        return min((item.since_ms for item in self._pending.values()), default=0)

    def read_again(self) -> bool:
        """Whether a queue that was full has room for what it left out, from `next` on."""
        if not self.behind or len(self._pending) > ORDERS_PENDING_MAX // 2:
            return False
        self.behind = False
        return True

    def _acknowledged(self, batch: Batch) -> Iterator[tuple[str, bytes]]:
        following = next((item.offset for item in self._pending.values()), self.next)
        self.progress = msgspec.structs.replace(self.progress, next=following)
        yield progress_key(self.kind), encode(self.progress)


def _is_news(id_: tuple[int, int], known: tuple[int, int] | None) -> bool:
    """Whether a version and checksum are newer than what is known. A late writer's row has a lower version; another
    content of the same version corrects it."""
    return known is None or id_[0] > known[0] or (id_[0] == known[0] and id_[1] != known[1])


def _continued(progress: Progress | None, epoch: str) -> Progress:
    """The progress in `epoch`, whose part before the `-` is new where the webhook is; a replay keeps the offset."""
    if progress is None or progress.epoch.partition("-")[0] != epoch.partition("-")[0]:
        return Progress(epoch)
    return progress if progress.epoch == epoch else Progress(epoch, next=progress.next)


def progress_key(kind: Kind) -> str:
    """The second part of the key of a queue's progress: no SKU contains white space."""
    return f" {kind}"


def kind_of(second: str) -> Kind | None:
    """The kind of a key's second part that is one of a progress; None for a SKU."""
    return next((kind for kind in get_args(Kind) if second == progress_key(kind)), None)


def _body(kind: Kind, channel: str, items: Iterable[Item]) -> bytes:
    type_ = b"stock.updated" if kind == "stock" else b"order.updated"
    parts = b",".join(item.value for item in items)
    return b'{"type":"%b","channel":%b,"items":[%b]}' % (type_, encode(channel), parts)
