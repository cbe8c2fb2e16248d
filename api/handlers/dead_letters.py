"""Dead letters over HTTP: listed, shown whole, sent again, dropped.

In: reasons, a state and the bounds of a page; or the place of a dead letter. Out: dead letters with their state. What
is done is what `stocktide dead-letters` does, by the same code.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from itertools import islice, takewhile
from typing import Annotated

from aiohttp import web
from aiokafka.errors import KafkaError
from msgspec import UNSET, Meta, Struct, structs
from multidict import MultiDict

from stocktide.api import problems
from stocktide.api.cursors import encode_cursor, parse_page
from stocktide.api.dead_letter_log import DeadLetterLog, rank_of
from stocktide.api.requests import check_name, parse_query, read_actor
from stocktide.streams.contract.documents import DeadLetterPage, DeadLetterPlace, ListedDeadLetter
from stocktide.streams.contract.events import Malformed
from stocktide.streams.contract.times import now_ms, rfc3339
from stocktide.streams.kafka.record_origin import RecordPlace
from stocktide.streams.topics import DEAD_LETTERS
from stocktide.tables.dead_letters.reader import (
    ALL_STATES,
    CLOSED_STATES,
    DeadLetterSummary,
    DeadLetterTopic,
    State,
    StoredDeadLetter,
)
from stocktide.tables.dead_letters.retry import DeadLetterProcessor, DeadLetterResult
from stocktide.tables.settlement.stalls import describe_error

PAGE_LETTERS_DEFAULT = 50
PAGE_LETTERS_MAX = 500
# To read what is new, and to send an event: each some tens of ms.
SECONDS_MAX = 4.0
# Digits of a partition and of an offset.
_DIGITS_MAX = 18

_Offset = Annotated[int, Meta(ge=0, le=2**62)]


class LetterCursor(Struct, frozen=True, array_like=True, order=True, tag="letters"):
    """The last dead letter of a page."""

    at: Annotated[str, Meta(max_length=64)]
    partition: _Offset
    offset: _Offset


class DeadLetterHandlers:
    """The handlers of `/v1/dead-letters`. `topic_name` is the full name of the topic; `processor` sends and marks in
    the name of an actor."""

    def __init__(
        self,
        log: DeadLetterLog,
        topic: DeadLetterTopic,
        topic_name: str,
        processor: Callable[[str], DeadLetterProcessor],
    ) -> None:
        self._log = log
        self._topic = topic
        self._topic_name = topic_name
        self._processor = processor
        # Two calls for one dead letter send it once.
        self._changing = asyncio.Lock()

    async def page(self, request: web.Request) -> web.Response:
        """`GET /v1/dead-letters?reason=…&state=…&cursor=…&limit=…`."""
        query = parse_query(request)
        wanted = _parse_filter(query)
        if isinstance(wanted, web.Response):
            return wanted
        page = parse_page(query, LetterCursor, PAGE_LETTERS_DEFAULT, PAGE_LETTERS_MAX)
        if isinstance(page, web.Response):
            return page
        (reasons, states), (limit, cursor) = wanted, page
        if (problem := await self._within_time(self._log.refresh())) is not None:
            return problem
        kept_from = rfc3339(now_ms() - (DEAD_LETTERS.retention_ms or 0))
        newest = self._log.newest
        before = newest.before(None if cursor is None else (cursor.at, cursor.partition, cursor.offset))
        kept = takewhile(lambda each: each.at >= kept_from, before)
        found = (each for each in kept if each.state in states and (not reasons or each.reason in reasons))
        shown = list(islice(found, limit + 1))
        following = encode_cursor(LetterCursor(*rank_of(shown[limit - 1]))) if len(shown) > limit else None
        answer = DeadLetterPage([_view(each) for each in shown[:limit]], following, newest.left_out)
        return problems.json_response(answer)

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/dead-letters/{partition}/{offset}`: one, with all of its event."""
        place = self._place(request)
        if place is None:
            return _unknown()
        rows: list[StoredDeadLetter] = []
        if (problem := await self._within_time(self._read(place, rows))) is not None:
            return problem
        letter = self._log.newest.at(place)
        return _unknown() if letter is None or not rows else problems.json_response(_view(letter, rows[0]))

    async def retry(self, request: web.Request) -> web.Response:
        """`POST /v1/dead-letters/{partition}/{offset}/retry`: send its event again to where it came from."""
        return await self._change(request, "retried")

    async def drop(self, request: web.Request) -> web.Response:
        """`POST /v1/dead-letters/{partition}/{offset}/drop`: be done with it."""
        return await self._change(request, "dropped")

    async def _change(self, request: web.Request, state: State) -> web.Response:
        actor, place = read_actor(request), self._place(request)
        if isinstance(actor, web.Response):
            return actor
        if place is None:
            return _unknown()
        async with self._changing:
            if (problem := await self._within_time(self._log.refresh(at_once=True))) is not None:
                return problem
            letter = self._log.newest.at(place)
            if letter is None:
                return _unknown()
            if letter.state in CLOSED_STATES:
                done = f"It was {letter.state} by {letter.by or 'an unnamed actor'} at {letter.done_at}."
                return problems.problem_response(409, "dead_letter_closed", done)
            results: list[DeadLetterResult] = []
            processor = self._processor(actor)
            work = (processor.retry if state == "retried" else processor.drop)([letter], results.append)
            if (problem := await self._within_time(work)) is not None:
                return problem
            if results[0].skipped:
                return problems.problem_response(409, "not_retriable", f"It is not sent: {results[0].skipped}.")
            if (problem := await self._within_time(self._log.refresh(at_once=True))) is not None:
                return problem
            changed = self._log.newest.at(place) or structs.replace(letter, state=state, by=actor)
        return problems.json_response(_view(changed))

    async def _read(self, place: RecordPlace, rows: list[StoredDeadLetter]) -> None:
        await self._log.refresh()
        if self._log.newest.at(place) is not None:
            rows += [stored async for stored in self._topic.rows(places=[place])]

    async def _within_time(self, work: Awaitable[None]) -> web.Response | None:
        try:
            async with asyncio.timeout(SECONDS_MAX):
                await work
        except TimeoutError:
            detail = "The dead letters are still being read; the same call may be sent again."
            return problems.service_unavailable("busy", detail)
        except (KafkaError, OSError) as error:
            detail = f"The dead letters cannot be read now: {describe_error(error)}."
            return problems.service_unavailable("unavailable", detail)
        return None

    def _place(self, request: web.Request) -> RecordPlace | None:
        given = request.match_info["partition"], request.match_info["offset"]
        if not all(each.isascii() and each.isdigit() and len(each) <= _DIGITS_MAX for each in given):
            return None
        return RecordPlace(self._topic_name, *map(int, given))


def _unknown() -> web.Response:
    return problems.not_found("unknown_dead_letter", "There is no dead letter at this place, or it is too old.")


def _view(letter: DeadLetterSummary, stored: StoredDeadLetter | None = None) -> ListedDeadLetter:
    """A dead letter with the beginning of its event, or with all of it."""
    event = letter.beginning if stored is None else stored.row.event
    cut = letter.is_cut or len(event) < letter.size
    text = event.decode(errors="ignore") if letter.is_text else UNSET  # a character may be cut
    return ListedDeadLetter(
        partition=letter.place.partition,
        offset=letter.place.offset,
        reason=letter.reason,
        detail=letter.detail,
        path=letter.path,
        topic=letter.origin.topic,
        origin=DeadLetterPlace(letter.origin.partition, letter.origin.offset),
        key=None if letter.key is None else letter.key.decode(errors="replace"),
        at=letter.at,
        raw=text,
        raw_base64=UNSET if letter.is_text else base64.b64encode(event).decode(),
        bytes=letter.size,
        cut=cut,
        state=letter.state,
        by=letter.by or None,
        done_at=letter.done_at or None,
    )


def _parse_filter(query: MultiDict[str]) -> tuple[frozenset[str], tuple[State, ...]] | web.Response:
    """The reasons that are wanted, empty for any, and the states."""
    reasons = frozenset(query.getall("reason", ()))
    for reason in reasons:
        if (invalid := check_name("reason", reason)) is not None:
            return invalid
    if (given := query.get("state")) is None:
        return reasons, ALL_STATES
    states = tuple(state for state in ALL_STATES if state == given)
    if not states:
        return problems.from_malformed(Malformed("invalid_field", "`open`, `retried` or `dropped`", "state"))
    return reasons, states
