"""Taking letters out of the dead letters: sending their events again, or leaving them be.

In: letters. Out: their events on the topics they came from, with headers that keep the first origin, and a mark for
each in `dead-letters`. The event goes first: a command that dies in between leaves a letter open that was sent again,
and ids make a second sending harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from msgspec import Struct

from stocktide.ops.dead_letters.reader import DeadLetterSummary, DeadLetterTopic, State, StoredDeadLetter
from stocktide.streams.contract.times import now_ms
from stocktide.streams.kafka.admin import RECORD_BYTES_MAX, RECORD_OVERHEAD_BYTES
from stocktide.streams.kafka.record_origin import RETRIED_FROM_HEADER, origin_header
from stocktide.streams.topics import INPUT_RETENTION_MS, MOVEMENTS, ORDERS
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.views import rfc3339

# Events sent before their marks: what a command that dies in between sends once more.
_STEP = 100
# Ids are remembered for longer than this. An event that is older might be taken for a new one, and count twice.
RETRY_WITHIN_MS = INPUT_RETENTION_MS
# A movement's refusal stands: the ledger keeps it under the movement's id and would answer the same. (What was no event
# at all, or met a movement of the same id, left nothing under its own.)
_STANDING = frozenset({Outcome.UNKNOWN_SKU, Outcome.MORE_THAN_DAMAGED, Outcome.COUNT_TOO_OLD})


class DeadLetterResult(Struct, frozen=True):
    """What became of one letter: `to` says where its event went; `skipped` why nothing was done."""

    letter: DeadLetterSummary
    to: str = ""
    skipped: str = ""


def retry_refusal(letter: DeadLetterSummary, app_id: str, now_ms: int) -> str | None:
    """Why the event of a letter must not, or need not, be sent again; None where it may."""
    if letter.origin.topic not in (ORDERS.full_name(app_id), MOVEMENTS.full_name(app_id)):
        return f"{letter.origin.topic} is no topic for input events"
    if letter.is_cut:
        return "its bytes were too many to be kept whole"
    if letter.reason == Outcome.TOO_OLD:
        return "it may have been counted already: its id was forgotten. Look, and send it as a new event"
    if letter.at < rfc3339(now_ms - RETRY_WITHIN_MS):
        return "the ids of its time may be forgotten, so it could count twice. Send it as a new event"
    if letter.origin.topic == MOVEMENTS.full_name(app_id) and letter.reason in _STANDING:
        return "the ledger keeps the refusal of a movement under its id. Send it under a new one"
    return None


class DeadLetterProcessor:
    """Sends and marks. `by` is the person who says so. Every method raises KafkaError."""

    def __init__(self, box: DeadLetterTopic, client: dict[str, Any], app_id: str, by: str) -> None:
        self._box = box
        self._app_id = app_id
        self._by = by
        self._producer = AIOKafkaProducer(
            acks="all",
            enable_idempotence=True,
            max_request_size=RECORD_BYTES_MAX + RECORD_OVERHEAD_BYTES,
            **client,
        )

    async def retry(self, letters: Sequence[DeadLetterSummary], tell: Callable[[DeadLetterResult], None]) -> None:
        """Send the events of `letters` again, each to its own partition, those of one key in their order."""
        await self._each(letters, tell, self._send)

    async def drop(self, letters: Sequence[DeadLetterSummary], tell: Callable[[DeadLetterResult], None]) -> None:
        """Mark `letters` as done with."""
        await self._each(letters, tell, None)

    async def _each(
        self,
        letters: Sequence[DeadLetterSummary],
        tell: Callable[[DeadLetterResult], None],
        send: Callable[[DeadLetterSummary, StoredDeadLetter], Any] | None,
    ) -> None:
        at_ms = now_ms()
        going: list[DeadLetterSummary] = []
        # In the order of their rows, so that all steps together read the topic once.
        for letter in sorted(letters, key=lambda each: each.place):
            refusal = retry_refusal(letter, self._app_id, at_ms) if send else None
            if refusal is None:
                going.append(letter)
            else:
                tell(DeadLetterResult(letter, skipped=refusal))
        await self._producer.start()
        try:
            for start in range(0, len(going), _STEP):
                step = going[start : start + _STEP]
                rows = {stored.place: stored async for stored in self._rows(step)}
                for done in await self._take_out(step, rows, send):
                    tell(done)
        finally:
            await self._producer.stop()

    def _rows(self, step: Sequence[DeadLetterSummary]) -> AsyncIterator[StoredDeadLetter]:
        return self._box.rows(places=[letter.place for letter in step])

    async def _take_out(
        self,
        step: Sequence[DeadLetterSummary],
        rows: dict[Any, StoredDeadLetter],
        send: Callable[[DeadLetterSummary, StoredDeadLetter], Any] | None,
    ) -> list[DeadLetterResult]:
        """Send, then mark, those of a step whose rows are still there."""
        kept = sorted((letter for letter in step if letter.place in rows), key=lambda each: each.origin)
        done = [DeadLetterResult(letter, skipped="its row has aged out") for letter in step if letter.place not in rows]
        if send is None:
            done += [DeadLetterResult(letter) for letter in kept]
        else:
            sent = await asyncio.gather(*[await send(letter, rows[letter.place]) for letter in kept])
            places = [f"{at.topic}/{at.partition}/{at.offset}" for at in sent]
            done += [DeadLetterResult(letter, to=to) for letter, to in zip(kept, places, strict=True)]
        state: State = "dropped" if send is None else "retried"
        marks = [await self._mark(each, state) for each in done if not each.skipped]
        await asyncio.gather(*marks)
        return done

    async def _send(self, letter: DeadLetterSummary, stored: StoredDeadLetter) -> Any:
        """Hand an event over; the awaitable gives where it went."""
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

    async def _mark(self, done: DeadLetterResult, state: State) -> Any:
        """A row of the same kind as the letter's, in the same partition, so that who reads in order sees it later."""
        letter = done.letter
        row = {
            "reason": state,
            "detail": f"sent again as {done.to}" if done.to else "left be",
            "path": None,
            "topic": letter.origin.topic,
            "partition": letter.origin.partition,
            "offset": letter.origin.offset,
            "at": rfc3339(now_ms()),
            "raw": "",
            "of": {"partition": letter.place.partition, "offset": letter.place.offset},
            "by": self._by,
        }
        return await self._producer.send(
            letter.place.topic, orjson.dumps(row), key=letter.key or b"", partition=letter.place.partition
        )
