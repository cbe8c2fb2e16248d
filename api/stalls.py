"""What of an API process's work waits, and how far it is: the standings by which a stall is seen (rule 48).

In: the parts that can stand still. Out: a `Standing` for each partition of the feeds' topic, the subscription to what
is settled, the commands that wait for the ledger, and the events that wait for Kafka.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from aiokafka.errors import KafkaError

from stocktide.api.batching import Desk
from stocktide.api.event_producer import Inbox
from stocktide.api.feeds.offset_vector import Cut
from stocktide.api.feeds.source import Source
from stocktide.streams.topics import CHANNEL_STOCK, JOURNAL
from stocktide.tables.settlement.listener import Settlements
from stocktide.tables.settlement.stalls import Standing, reason_of

# A Kafka that takes longer does not answer: a look comes every second.
ANSWER_SECONDS_MAX = 2.0


class Standings:
    """Looks at the parts of one API process."""

    def __init__(self, app_id: str, source: Source, settlements: Settlements, desk: Desk, inbox: Inbox) -> None:
        self._source = source
        self._settlements = settlements
        self._desk = desk
        self._inbox = inbox
        self._feed = CHANNEL_STOCK.full_name(app_id)
        self._journal = JOURNAL.full_name(app_id)
        self._ends: Cut = ()
        self._silent: str | None = None

    async def look(self) -> list[Standing]:
        """Ask Kafka where the feeds' topic ends, and tell how everything stands; raises nothing."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                self._ends, read = await self._source.ends(), await self._source.read()
            self._silent = None
        except (KafkaError, OSError) as error:
            self._silent, read = f"Kafka does not say where it ends: {reason_of(error)}", self._source.position
        return [*self._feeds(read), *self._ledger()]

    def _feeds(self, read: Cut) -> Iterator[Standing]:
        for partition, at in enumerate(read):
            end = self._ends[partition] if self._ends else at
            waiting = max(0, end - at) or int(self._silent is not None)
            reason = self._silent or self._source.trouble or "the consumer gives nothing"
            part = f"feeding {self._feed}-{partition}"
            yield Standing(part, waiting, (at, self._source.position[partition]), reason, self._feed, partition, at)

    def _ledger(self) -> Iterator[Standing]:
        heard, desk, inbox = self._settlements, self._desk, self._inbox
        cut = "" if heard.subscribed else f"the subscription is cut: {heard.trouble}"
        yield Standing("hearing what is settled", int(not heard.subscribed), heard.newest, cut, self._journal)
        yield Standing("deciding requests", desk.open, desk.answered, desk.trouble or "no answer comes", self._journal)
        waiting = inbox.trouble or "Kafka has not acknowledged them"
        yield Standing("taking events", inbox.waiting, inbox.written, waiting, inbox.topic)
