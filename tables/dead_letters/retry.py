"""Sends the events of dead letters again, or drops dead letters.

In: dead letters. Out: their events on the topics they came from, with headers that keep the first origin, and a mark
for each in `dead-letters`. The event is sent before its mark: a crash in between leaves an open dead letter whose event
was sent, and ids make a second sending harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from msgspec import Struct

from stocktide.streams.contract.documents import DeadLetter, DeadLetterPlace, encode
from stocktide.streams.contract.times import now_ms, rfc3339
from stocktide.streams.kafka.admin import RECORD_BYTES_MAX, RECORD_OVERHEAD_BYTES
from stocktide.streams.kafka.record_origin import RETRIED_FROM_HEADER, origin_header
from stocktide.streams.topics import INPUT_RETENTION_MS, MOVEMENTS, ORDERS
from stocktide.tables.dead_letters.reader import DeadLetterSummary, DeadLetterTopic, State, StoredDeadLetter
from stocktide.tables.ledger.outcomes import Outcome

# Events sent before their marks; after a crash as many are sent twice.
_STEP = 100
# Ids are kept for longer than this. The id of an older event may be forgotten, and the event would count twice.
RETRY_WITHIN_MS = INPUT_RETENTION_MS
# The ledger keeps these refusals under the movement's id and would answer the same again.
_FINAL_REFUSALS = frozenset(
    {
        Outcome.UNKNOWN_SKU,
        Outcome.MORE_THAN_DAMAGED,
        Outcome.MORE_THAN_AVAILABLE,
        Outcome.MORE_THAN_RESERVED,
        Outcome.POOL_ENDED,
        Outcome.COUNT_TOO_OLD,
    }
)


class DeadLetterResult(Struct, frozen=True):
    """The result for one dead letter: `to` is the new place of its event, `skipped` why nothing was done."""

    letter: DeadLetterSummary
    to: str = ""
    skipped: str = ""


def retry_refusal(letter: DeadLetterSummary, app_id: str, now_ms: int) -> str | None:
    """Why the event must not or need not be sent again; None where it may."""
    if letter.origin.topic not in (ORDERS.full_name(app_id), MOVEMENTS.full_name(app_id)):
        return f"{letter.origin.topic} is no topic for input events"
    if letter.is_cut:
        return "its bytes were too many to be kept whole"
    if letter.reason == Outcome.TOO_OLD:
        return "it may have been counted already: its id was forgotten. Look, and send it as a new event"
    if letter.at < rfc3339(now_ms - RETRY_WITHIN_MS):
        return "the ids of its time may be forgotten, so it could count twice. Send it as a new event"
    if letter.origin.topic == MOVEMENTS.full_name(app_id) and letter.reason in _FINAL_REFUSALS:
        return "the ledger keeps the refusal of a movement under its id. Send it under a new one"
    return None


class DeadLetterProcessor:
    """Sends events and writes marks in the name of `by`. Every method raises KafkaError."""

    def __init__(self, topic: DeadLetterTopic, client: dict[str, Any], app_id: str, by: str) -> None:
        self._topic = topic
        self._app_id = app_id
        self._by = by
        self._producer = AIOKafkaProducer(
            acks="all",
            enable_idempotence=True,
            max_request_size=RECORD_BYTES_MAX + RECORD_OVERHEAD_BYTES,
            **client,
        )

    async def retry(self, letters: Sequence[DeadLetterSummary], report: Callable[[DeadLetterResult], None]) -> None:
        """Send the events of `letters` again, each to its partition; those of one key keep their order."""
        await self._process_all(letters, report, self._send)

    async def drop(self, letters: Sequence[DeadLetterSummary], report: Callable[[DeadLetterResult], None]) -> None:
        """Mark `letters` as dropped."""
        await self._process_all(letters, report, None)

    async def _process_all(
        self,
        letters: Sequence[DeadLetterSummary],
        report: Callable[[DeadLetterResult], None],
        send: Callable[[DeadLetterSummary, StoredDeadLetter], Any] | None,
    ) -> None:
        at_ms = now_ms()
        accepted: list[DeadLetterSummary] = []
        # In the order of their rows: all steps together read the topic once.
        for letter in sorted(letters, key=lambda each: each.place):
            refusal = retry_refusal(letter, self._app_id, at_ms) if send else None
            if refusal is None:
                accepted.append(letter)
            else:
                report(DeadLetterResult(letter, skipped=refusal))
        await self._producer.start()
        try:
            for start in range(0, len(accepted), _STEP):
                step = accepted[start : start + _STEP]
                places = [letter.place for letter in step]
                rows = {stored.place: stored async for stored in self._topic.rows(places=places)}
                for result in await self._process(step, rows, send):
                    report(result)
        finally:
            await self._producer.stop()

    async def _process(
        self,
        step: Sequence[DeadLetterSummary],
        rows: dict[Any, StoredDeadLetter],
        send: Callable[[DeadLetterSummary, StoredDeadLetter], Any] | None,
    ) -> list[DeadLetterResult]:
        """Send, then mark, those whose rows still exist."""
        existing = sorted((letter for letter in step if letter.place in rows), key=lambda each: each.origin)
        results = [
            DeadLetterResult(letter, skipped="its row has aged out") for letter in step if letter.place not in rows
        ]
        if send is None:
            results += [DeadLetterResult(letter) for letter in existing]
        else:
            sent = await asyncio.gather(*[await send(letter, rows[letter.place]) for letter in existing])
            places = [f"{at.topic}/{at.partition}/{at.offset}" for at in sent]
            results += [DeadLetterResult(letter, to=to) for letter, to in zip(existing, places, strict=True)]
        state: State = "dropped" if send is None else "retried"
        marks = [await self._mark(each, state) for each in results if not each.skipped]
        await asyncio.gather(*marks)
        return results

    async def _send(self, letter: DeadLetterSummary, stored: StoredDeadLetter) -> Any:
        """Send an event; the awaitable returns its new place."""
        origin = letter.origin
        if origin.partition not in await self._producer.partitions_for(origin.topic):
            raise KafkaError(f"{origin.topic} has no partition {origin.partition} any more")
        return await self._producer.send(
            origin.topic,
            stored.row.event,
            key=stored.key,
            partition=origin.partition,
            headers=[
                origin_header(origin),
                (RETRIED_FROM_HEADER, f"{letter.place.partition}/{letter.place.offset}".encode()),
            ],
        )

    async def _mark(self, result: DeadLetterResult, state: State) -> Any:
        """Write the mark into the dead letter's partition, so that readers see it after the dead letter."""
        letter = result.letter
        mark = DeadLetter(
            reason=state,
            detail=f"sent again as {result.to}" if result.to else "left be",
            path=None,
            topic=letter.origin.topic,
            partition=letter.origin.partition,
            offset=letter.origin.offset,
            at=rfc3339(now_ms()),
            raw="",
            of=DeadLetterPlace(letter.place.partition, letter.place.offset),
            by=self._by,
        )
        return await self._producer.send(
            letter.place.topic, encode(mark), key=letter.key or b"", partition=letter.place.partition
        )
