"""The agent of the topic `intake`: webhooks → rows of `orders` and `movements`.

In: chunks of webhooks. Out: events, and dead letters for what cannot be mapped; both are written before the chunk is
acked. A redelivery writes the same events again: their ids make that harmless.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka.partitioner import murmur2

from stocktide.agents.dead_letters import dead_letter_of_malformed
from stocktide.agents.mapping.evaluate import Evaluator, MappedEvent
from stocktide.agents.mapping.fetch import Fetcher
from stocktide.agents.mapping.values import Rejection, Values
from stocktide.agents.metrics import WorkerMetrics
from stocktide.streams.contract.events import Malformed
from stocktide.streams.kafka.publish import OutputRow, Publisher
from stocktide.streams.kafka.transport import Chunk
from stocktide.streams.mapping import mapping_file
from stocktide.streams.mapping.envelope import Envelope, decode_envelope
from stocktide.streams.mapping.unwrap import Unreadable, read_messages
from stocktide.streams.topics import DEAD_LETTERS, MOVEMENTS, ORDERS


class MappingAgent:
    """Maps webhooks. `tokens` are those of the mappings that fetch; `partitions` is the number of the input topics."""

    def __init__(
        self,
        mappings: Mapping[str, mapping_file.Mapping],
        tokens: Mapping[str, str],
        publisher: Publisher,
        app_id: str,
        partitions: int,
        metrics: WorkerMetrics,
    ) -> None:
        self._mappers = {name: Mapper(mapping, tokens.get(name, "")) for name, mapping in mappings.items()}
        self._publisher = publisher
        self._app_id = app_id
        self._partitions = partitions
        self._metrics = metrics

    async def map_chunk(self, chunk: Chunk, epoch: int) -> None:
        """Map a chunk and write its events. Raises MembershipLost; may be called again with the same chunk."""
        events: list[MappedEvent] = []
        dead_letters: list[OutputRow] = []
        for record in chunk.records:
            mapped, rejections = await self._map(record.value or b"")
            events += mapped
            for rejection in rejections:
                why = Malformed(rejection.code, str(rejection), rejection.path)
                dead_letters.append(dead_letter_of_malformed(chunk, record, why))
        for topic, is_movement in ((ORDERS, False), (MOVEMENTS, True)):
            if rows := [(event.key, event.raw) for event in events if event.is_movement == is_movement]:
                # As all other producers of these topics partition.
                await self._publisher.publish(topic.full_name(self._app_id), rows, epoch, to_partition=self._partition)
        if dead_letters:
            self._metrics.dead_letters.inc(len(dead_letters))
            await self._publisher.publish(DEAD_LETTERS.full_name(self._app_id), dead_letters, epoch)

    async def _map(self, raw: bytes) -> tuple[list[MappedEvent], list[Rejection]]:
        envelope = decode_envelope(raw)
        if envelope is None:
            return [], [Rejection("malformed_body", "no webhook of this version")]
        if (mapper := self._mappers.get(envelope.name)) is None:
            return [], [Rejection("unknown_mapping", f"there is no mapping {envelope.name!r}")]
        return await mapper.map(envelope)

    def _partition(self, key: bytes) -> int:
        return int(murmur2(key) & 0x7FFFFFFF) % self._partitions


class Mapper:
    """Maps webhooks of one mapping."""

    def __init__(self, mapping: mapping_file.Mapping, token: str = "") -> None:
        self._mapping = mapping
        self._evaluator = Evaluator(mapping)
        self._fetcher = None if mapping.fetch is None else Fetcher(mapping.fetch, token)

    async def map(self, envelope: Envelope) -> tuple[list[MappedEvent], list[Rejection]]:
        """The events of a webhook, and the rejections of those of its messages that cannot be mapped."""
        events: list[MappedEvent] = []
        rejections: list[Rejection] = []
        try:
            messages = read_messages(self._mapping, envelope.body)
        except Unreadable as error:
            return [], [Rejection("malformed_body", str(error), error.path)]
        for message in messages:
            try:
                events += self._evaluator.events(envelope, await self._complete(envelope, message))
            except Rejection as rejection:
                rejections.append(rejection)
        return events, rejections

    async def _complete(self, envelope: Envelope, message: object) -> object:
        """The message with what is fetched for it. Raises Rejection."""
        fetch = self._mapping.fetch
        if fetch is None or self._fetcher is None or self._evaluator.choose(envelope, message)[0] not in fetch.words:
            return message
        fetched = await self._fetcher.get(Values(message, envelope, self._mapping.zone))
        return {**message, "fetched": fetched} if isinstance(message, dict) else message
