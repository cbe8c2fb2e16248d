"""Spans of the worker: what each agent does for the records whose headers, or whose batch's token, carry a context.

In: the same records. Out: spans that continue or link those of the records' causes. The agents are given these where
traces are exported, and know nothing of spans otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from opentelemetry.trace import Span, SpanContext, SpanKind
from opentelemetry.util.types import AttributeValue

from stocktide.agents.channel_stock.conflation import DueUpdate
from stocktide.agents.dead_letters import original_place
from stocktide.agents.webhooks.queues import Batch
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


def submitting(tracing: Tracing, chunk: Chunk) -> AbstractContextManager[None]:
    """Around the intake of a chunk of events: what caused their commands is known."""
    causes: dict[Any, SpanContext | None] = {}
    for record in chunk.records:
        if (cause := context_of_headers(record.headers)) is not None:
            place = original_place(chunk, record)
            causes[place.topic, place.partition, place.offset] = cause
    return tracing.causing(causes)


def mapping(tracing: Tracing, chunk: Chunk) -> AbstractContextManager[Span | None]:
    """Around the mapping of a chunk of webhooks."""
    return tracing.span("map intake", _causes(chunk.records), SpanKind.CONSUMER)


def deriving(tracing: Tracing, chunk: Chunk) -> AbstractContextManager[Span | None]:
    """Around the derivation of a chunk of the journal."""
    entries = (decode_record(record.value) for record in chunk.records)
    tokens = [entry.token for entry in entries if entry is not None and entry.kind == KIND_BATCH]
    causes = [cause for token in tokens if (cause := context_of_token(token)) is not None]
    return tracing.span("derive rows", causes, SpanKind.CONSUMER, {"stocktide.batches": len(tokens)})


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


class ChannelTraces:
    """Of one partition of `stock`. An update has the cause of the newest row of its SKU, which it shows."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._causes = _Recent(CAUSES_MAX)

    def folding(self, records: Sequence[Record]) -> None:
        """Rows are read."""
        for record in records:
            sku = (record.key or b"").decode(errors="replace")
            if (cause := context_of_headers(record.headers)) is not None:
                self._causes.note(sku, cause)
            else:
                self._causes.pop(sku, None)

    def publishing(self, updates: Sequence[DueUpdate]) -> AbstractContextManager[Span | None]:
        """The span of one write."""
        skus = (split_key(update.key.decode())[1] for update in updates)
        causes = [self._causes[sku] for sku in skus if sku in self._causes]
        attributes = {"stocktide.updates": len(updates)}
        return self._tracing.span("publish channel-stock", causes, SpanKind.PRODUCER, attributes)


class WebhookTraces:
    """What the rows that webhooks have to send were caused by, by name and offset."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._causes = _Recent(CAUSES_MAX)

    def note(self, records: Sequence[Any], are_orders: bool) -> None:
        """Rows were read."""
        for record in records:
            if (cause := context_of_headers(record.headers)) is not None:
                key = record.key.decode(errors="replace")
                self._causes.note((key if are_orders else split_key(key)[1], record.offset), cause)

    def calling(self, webhook: str, batch: Batch) -> AbstractContextManager[Span | None]:
        """The span of one call."""
        items = ((item.name, item.offset) for item in batch.items)
        causes = [self._causes[item] for item in items if item in self._causes]
        attributes: dict[str, AttributeValue] = {"stocktide.webhook": webhook, "stocktide.items": len(batch.items)}
        return self._tracing.span("call webhook", causes, SpanKind.CLIENT, attributes)


def _causes(records: Sequence[Record]) -> Iterator[SpanContext]:
    return (cause for record in records if (cause := context_of_headers(record.headers)) is not None)
