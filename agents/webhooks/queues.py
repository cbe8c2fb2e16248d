"""What one endpoint has to get from one partition: the newest states that it has not acknowledged.

In: rows of the partition, in order; acknowledgements. Out: batches with their ids. A queue is bounded by the number of
SKUs; that of orders by ORDERS_PENDING_MAX, beyond which its rows are read again later.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from typing import Literal

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
    stock). A successor sends the same batch again while all of it is still the newest."""

    epoch: str
    sent: tuple[ItemId, ...] = ()
    next: int = -1


class Batch(Struct, frozen=True):
    """Items of one call. `id` is the same for the same content in the same epoch, whoever sends it."""

    id: str
    body: bytes
    items: tuple[Item, ...]

    @property
    def sent(self) -> tuple[ItemId, ...]:
        """The ids of its items."""
        return tuple(item.id for item in self.items)


class _Update(Struct, gc=False):
    version: int


class _OrderHead(Struct, gc=False):
    channel: str
    sequence: int
    restated: bool = False


_decode_update = msgspec.json.Decoder(_Update).decode
_decode_order = msgspec.json.Decoder(_OrderHead).decode


class Queue:
    """The pending items of one kind. Frequent changes do not move an item behind others."""

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

    def next_batch(self) -> Batch | None:
        """The batch that is to be sent now, None if there is none: the one sent last, if all of it is pending and
        unchanged, so that a retry carries the same id; else the items that have waited longest."""
        if not self.ready or not self._pending:
            return None
        again = [self._pending.get(name) for name, _, _ in self.progress.sent]
        same = [item for item, id_ in zip(again, self.progress.sent, strict=True) if item and item.id == id_]
        items = same if same and len(same) == len(again) else list(self._first_items())
        return self._make_batch(items)

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

    def _acknowledged(self, batch: Batch) -> Iterator[tuple[str, bytes]]:
        raise NotImplementedError

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

    def _make_batch(self, items: Iterable[Item]) -> Batch:
        kept = tuple(items)
        content = [self.webhook.name, self.webhook.epoch, self.partition, self.kind, sorted(item.id for item in kept)]
        # Hexadecimal: an id has no dot.
        id_ = f"msg_{hashlib.sha256(encode(content)).hexdigest()[:32]}"
        return Batch(id_, _body(self.kind, self.webhook.channel, kept), kept)


class StockQueue(Queue):
    """The newest channel update of each SKU, by what the endpoint has acknowledged."""

    kind: Kind = "stock"

    def __init__(
        self,
        webhook: Webhook,
        partition: int,
        progress: Progress | None = None,
        acknowledged: Iterable[tuple[str, Acknowledged]] = (),
    ) -> None:
        super().__init__(webhook, partition, progress)
        self._acknowledged_ids = {
            sku: (row.version, row.checksum) for sku, row in acknowledged if row.epoch == webhook.epoch
        }

    def offer(self, sku: str, value: bytes | None, offset: int = 0) -> None:
        """The next row of the webhook's channel; None removes the SKU. Raises MsgspecError."""
        if value is None:
            self._pending.pop(sku, None)
            self._acknowledged_ids.pop(sku, None)
            return
        if not self.webhook.takes(sku):
            return
        held = self._pending.get(sku)
        since = held.since_ms if held is not None else now_ms()
        item = Item(sku, _decode_update(value).version, zlib.crc32(value), value, since, offset)
        known = (held.version, held.checksum) if held is not None else self._acknowledged_ids.get(sku)
        # A late writer's row has a lower version; another content of the same version corrects it.
        if known is None or item.version > known[0] or (item.version == known[0] and item.checksum != known[1]):
            self._pending[sku] = item

    def _acknowledged(self, batch: Batch) -> Iterator[tuple[str, bytes]]:
        for item in batch.items:
            self._acknowledged_ids[item.name] = (item.version, item.checksum)
            yield item.name, encode(Acknowledged(self.webhook.epoch, item.version, item.checksum))


class OrderQueue(Queue):
    """The newest document of each order that changed from the offset `next` on; for a new webhook, from the end
    of the topic on."""

    kind: Kind = "orders"

    def __init__(self, webhook: Webhook, partition: int, end: int, progress: Progress | None = None) -> None:
        super().__init__(webhook, partition, progress)
        # After a restore the topic may be shorter than it was.
        if not 0 <= self.progress.next <= end:
            self.progress = msgspec.structs.replace(self.progress, next=end)
        # The offset of the next row that is taken, and whether rows were left out because the queue was full.
        self.next = self.progress.next
        self.behind = False

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
        held = self._pending.get(order_id)
        since = held.since_ms if held is not None else now_ms()
        self._pending[order_id] = Item(order_id, head.sequence, zlib.crc32(document), document, since, offset)

    def read_again(self) -> bool:
        """Whether a queue that was full has room for what it left out, from `next` on."""
        if not self.behind or len(self._pending) > ORDERS_PENDING_MAX // 2:
            return False
        self.behind = False
        return True

    def _acknowledged(self, batch: Batch) -> Iterator[tuple[str, bytes]]:
        following = min((item.offset for item in self._pending.values()), default=self.next)
        self.progress = msgspec.structs.replace(self.progress, next=following)
        yield progress_key(self.kind), encode(self.progress)


def _continued(progress: Progress | None, epoch: str) -> Progress:
    """The progress in `epoch`, whose part before the `-` is new where the webhook is; a replay keeps the offset."""
    if progress is None or progress.epoch.partition("-")[0] != epoch.partition("-")[0]:
        return Progress(epoch)
    return progress if progress.epoch == epoch else Progress(epoch, next=progress.next)


def progress_key(kind: Kind) -> str:
    """The second part of the key of a queue's progress: no SKU contains white space."""
    return f" {kind}"


def _body(kind: Kind, channel: str, items: Iterable[Item]) -> bytes:
    type_ = b"stock.updated" if kind == "stock" else b"order.updated"
    parts = b",".join(item.value for item in items)
    return b'{"type":"%b","channel":%b,"items":[%b]}' % (type_, encode(channel), parts)
