"""What of an API process's work waits, and how far it is: the standings by which a stall is seen (rule 48).

In: the parts that can stand still. Out: a `PartStatus` for each partition of the feeds' topic, the subscription to what
is settled, the commands that wait for the ledger, and the events that wait for Kafka.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from aiokafka.errors import KafkaError

from stocktide.api.batching import CommandBatcher
from stocktide.api.event_producer import EventProducer
from stocktide.api.feeds.consumer import ChannelStockConsumer
from stocktide.api.feeds.offset_vector import OffsetVector
from stocktide.streams.topics import CHANNEL_STOCK, JOURNAL
from stocktide.tables.settlement.listener import SettlementListener
from stocktide.tables.settlement.stalls import PartStatus, describe_error

# A Kafka that takes longer does not answer: a look comes every second.
ANSWER_SECONDS_MAX = 2.0


class ApiProgressProbe:
    """Looks at the parts of one API process."""

    def __init__(
        self,
        app_id: str,
        source: ChannelStockConsumer,
        settlements: SettlementListener,
        batcher: CommandBatcher,
        event_producer: EventProducer,
    ) -> None:
        self._source = source
        self._settlements = settlements
        self._desk = batcher
        self._inbox = event_producer
        self._feed = CHANNEL_STOCK.full_name(app_id)
        self._journal = JOURNAL.full_name(app_id)
        self._ends: OffsetVector = ()
        self._silent: str | None = None

    async def look(self) -> list[PartStatus]:
        """Ask Kafka where the feeds' topic ends, and tell how everything stands; raises nothing."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                self._ends, read = await self._source.ends(), await self._source.read()
            self._silent = None
        except (KafkaError, OSError) as error:
            self._silent, read = f"Kafka does not say where it ends: {describe_error(error)}", self._source.position
        return [*self._feeds(read), *self._ledger()]

    def _feeds(self, read: OffsetVector) -> Iterator[PartStatus]:
        for partition, at in enumerate(read):
            end = self._ends[partition] if self._ends else at
            waiting = max(0, end - at) or int(self._silent is not None)
            reason = self._silent or self._source.trouble or "the consumer gives nothing"
            part = f"feeding {self._feed}-{partition}"
            yield PartStatus(part, waiting, (at, self._source.position[partition]), reason, self._feed, partition, at)

    def _ledger(self) -> Iterator[PartStatus]:
        heard, batcher, event_producer = self._settlements, self._desk, self._inbox
        cut = "" if heard.subscribed else f"the subscription is cut: {heard.trouble}"
        yield PartStatus("hearing what is settled", int(not heard.subscribed), heard.newest, cut, self._journal)
        yield PartStatus(
            "deciding requests", batcher.open, batcher.answered, batcher.trouble or "no answer comes", self._journal
        )
        waiting = event_producer.trouble or "Kafka has not acknowledged them"
        yield PartStatus("taking events", event_producer.waiting, event_producer.written, waiting, event_producer.topic)
