"""Spans of the worker: what each agent does for the records whose headers, or whose batch's token, carry a context.

In: the same records. Out: the same work, with spans that continue or link those of its causes. The worker makes these
classes in place of the plain ones where traces are exported, so that the plain ones know nothing of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from opentelemetry.trace import Span, SpanContext, SpanKind
from opentelemetry.util.types import AttributeValue

from stocktide.agents.channel_stock.agent import ChannelPublisher, StockAgent
from stocktide.agents.channel_stock.conflation import DueUpdate, PendingAck
from stocktide.agents.dead_letters import original_place
from stocktide.agents.derive.agent import Derivation
from stocktide.agents.intake import Decode, Intake
from stocktide.agents.mapping.agent import MappingAgent
from stocktide.agents.webhooks.queues import Batch
from stocktide.agents.webhooks.session import Session
from stocktide.streams.journal.record import KIND_BATCH, Position, decode_record
from stocktide.streams.kafka.transport import Chunk, Record
from stocktide.streams.spans import Tracing, context_of_headers, context_of_token
from stocktide.streams.topics import split_key
from stocktide.tables.ledger.control import OutboxEntry

# Causes that are kept of rows which wait to be published or sent; the oldest are forgotten, and their links with them.
CAUSES_MAX = 20_000
# Batches sent to the journal and not read back: as many as the outbox takes by default.
BATCHES_MAX = 2_000


class _Recent(dict[Any, Any]):
    """A mapping that forgets its oldest entries."""

    def __init__(self, size_max: int) -> None:
        super().__init__()
        self._size_max = size_max

    def note(self, key: object, value: object) -> None:
        """Add the newest entry."""
        self.pop(key, None)
        self[key] = value
        if len(self) > self._size_max:
            del self[next(iter(self))]


class TracedIntake(Intake):
    """See Intake."""

    def __init__(self, *arguments: Any, tracing: Tracing) -> None:
        super().__init__(*arguments)
        self._tracing = tracing

    async def submit_chunk(self, chunk: Chunk, epoch: int, decode: Decode) -> None:
        """See Intake."""
        causes: dict[Any, SpanContext | None] = {}
        for record in chunk.records:
            if (cause := context_of_headers(record.headers)) is not None:
                place = original_place(chunk, record)
                causes[place.topic, place.partition, place.offset] = cause
        with self._tracing.causing(causes):
            await super().submit_chunk(chunk, epoch, decode)


class TracedMappingAgent(MappingAgent):
    """See MappingAgent."""

    def __init__(self, *arguments: Any, tracing: Tracing) -> None:
        super().__init__(*arguments)
        self._tracing = tracing

    async def map_chunk(self, chunk: Chunk, epoch: int) -> None:
        """See MappingAgent."""
        with self._tracing.span("map intake", _causes(chunk.records), SpanKind.CONSUMER):
            await super().map_chunk(chunk, epoch)


class RelayTraces:
    """From sending a batch to the journal until it was read back and settled."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._open = _Recent(BATCHES_MAX)

    def sent(self, entries: Sequence[OutboxEntry]) -> None:
        """Batches are sent to Kafka, perhaps again."""
        for entry in entries:
            if entry.token not in self._open and (cause := context_of_token(entry.token)) is not None:
                span = self._tracing.begin("journal batch", cause, SpanKind.PRODUCER)
                span.set_attribute("stocktide.batch", entry.batch)
                self._open.note(entry.token, span)

    def settled(self, positions: Sequence[Position]) -> None:
        """Batches are settled."""
        for position in positions:
            span: Span | None = self._open.pop(position.token, None)
            if span is not None:
                span.end()


class TracedDerivation(Derivation):
    """See Derivation."""

    def __init__(self, *arguments: Any, tracing: Tracing) -> None:
        super().__init__(*arguments)
        self._tracing = tracing

    async def _derive(self, chunk: Chunk, epoch: int) -> None:
        entries = (decode_record(record.value) for record in chunk.records)
        tokens = [entry.token for entry in entries if entry is not None and entry.kind == KIND_BATCH]
        causes = [cause for token in tokens if (cause := context_of_token(token)) is not None]
        attributes = {"stocktide.batches": len(tokens)}
        with self._tracing.span("derive rows", causes, SpanKind.CONSUMER, attributes):
            await super()._derive(chunk, epoch)


class TracedStockAgent(StockAgent):
    """See StockAgent."""

    def __init__(self, *arguments: Any, tracing: Tracing) -> None:
        super().__init__(*arguments)
        self._publisher_type = partial(TracedChannelPublisher, tracing=tracing)


class TracedChannelPublisher(ChannelPublisher):
    """See ChannelPublisher. An update has the cause of the newest row of its SKU, which it shows."""

    def __init__(self, *arguments: Any, tracing: Tracing) -> None:
        super().__init__(*arguments)
        self._tracing = tracing
        self._causes = _Recent(CAUSES_MAX)

    async def fold(self, records: Iterable[Record], pending_ack: PendingAck | None) -> None:
        """See ChannelPublisher."""
        rows = list(records)
        for record in rows:
            sku = (record.key or b"").decode(errors="replace")
            if (cause := context_of_headers(record.headers)) is not None:
                self._causes.note(sku, cause)
            else:
                self._causes.pop(sku, None)
        await super().fold(rows, pending_ack)

    async def write(self, updates: list[DueUpdate]) -> None:
        """See ChannelPublisher."""
        skus = (split_key(update.key.decode())[1] for update in updates)
        causes = [self._causes[sku] for sku in skus if sku in self._causes]
        attributes = {"stocktide.updates": len(updates)}
        with self._tracing.span("publish channel-stock", causes, SpanKind.PRODUCER, attributes):
            await super().write(updates)


class WebhookTraces:
    """What the rows that webhooks have to send were caused by, by name and offset."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._causes = _Recent(CAUSES_MAX)

    def note(self, name: str, record: Any) -> None:
        """A row of a topic was read."""
        if (cause := context_of_headers(record.headers)) is not None:
            self._causes.note((name, record.offset), cause)

    def calling(self, webhook: str, batch: Batch) -> AbstractContextManager[Span | None]:
        """The span of one call."""
        items = ((item.name, item.offset) for item in batch.items)
        causes = [self._causes[item] for item in items if item in self._causes]
        attributes: dict[str, AttributeValue] = {"stocktide.webhook": webhook, "stocktide.items": len(batch.items)}
        return self._tracing.span("call webhook", causes, SpanKind.CLIENT, attributes)


class TracedSession(Session):
    """See Session."""

    def __init__(self, *arguments: Any, traces: WebhookTraces) -> None:
        super().__init__(*arguments)
        self._traces = traces

    def _offer(self, part: Any, record: Any) -> None:
        key = record.key.decode()
        self._traces.note(key if part.topic == self._parts.orders_topic else split_key(key)[1], record)
        super()._offer(part, record)


def _causes(records: Sequence[Record]) -> Iterator[SpanContext]:
    return (cause for record in records if (cause := context_of_headers(record.headers)) is not None)
