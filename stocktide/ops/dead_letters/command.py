"""`stocktide dead-letters`: what was refused, shown; sent again, or left be, where a person says so.

In: settings, and which letters. Out: tables or JSON on standard output, and an exit status: 1 where something could not
be done, 2 where no such letter is there.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import click
import orjson
from rich.console import Console

from stocktide.ops.dead_letters.reader import (
    ALL_STATES,
    CLOSED_STATES,
    TIME_MAX,
    DeadLetterFold,
    DeadLetterQuery,
    DeadLetterSummary,
    DeadLetterTopic,
    State,
    StoredDeadLetter,
)
from stocktide.ops.dead_letters.render import escape_unprintable, render_dead_letter, render_dead_letters
from stocktide.ops.dead_letters.retry import DeadLetterProcessor, DeadLetterResult
from stocktide.progress import announce_if_slow
from stocktide.settings import Settings
from stocktide.streams.kafka.record_origin import RecordPlace
from stocktide.streams.topics import DEAD_LETTERS, TOPICS
from stocktide.tables.views import rfc3339
from stocktide.wait_for_servers import wait_for_kafka

NOT_FOUND = 2
# Letters that one call sends again or drops, unless it says another number: what a person can have looked through.
CHANGED_DEFAULT = 1_000
CHANGED_MAX = 100_000
LISTED_DEFAULT = 50
# The clocks of who wrote a letter and of who dated it may differ by so much.
_CLOCKS_DIFFER_MS = 600_000
_PLACE = re.compile(r"(?:(?P<topic>[A-Za-z0-9._-]{1,249})/)?(?P<partition>\d{1,9})/(?P<offset>\d{1,18})")

Action = Literal["retry", "drop"]
_STATES: dict[Action, State] = {"retry": "retried", "drop": "dropped"}


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which letters. Topics with or without the app id; times in ms; `limit` the newest to list, the oldest to take."""

    reasons: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    limit: int | None = None
    all_states: bool = False


class DeadLetterCommand:
    """The command on one installation."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._box = DeadLetterTopic(DEAD_LETTERS.full_name(settings.app_id), settings.kafka_client())

    def list_all(self, chosen: DeadLetterFilter, as_json: bool) -> int:
        """Show the letters, newest first."""
        letters, forgotten = asyncio.run(self._found(chosen))
        limit = chosen.limit or LISTED_DEFAULT
        shown = letters[: -limit - 1 : -1]
        if as_json:
            _write_json([self._view(letter) for letter in shown])
            return 0
        if not shown:
            click.echo("no dead letters" if chosen == DeadLetterFilter() else "no such dead letters")
            return 0
        render_dead_letters(Console(), shown, self._short, chosen.all_states)
        if len(letters) > len(shown):
            click.echo(f"{len(shown)} of {len(letters)}, the newest; --limit shows more")
        if forgotten:
            click.echo(f"{forgotten} older ones were too many to be looked at: filters reach them")
        return 0

    def show_one(self, place: str, as_json: bool, raw: bool) -> int:
        """Show one letter whole."""
        found = asyncio.run(self._one(place))
        if found is None:
            return _refuse(f"there is no dead letter {place}", NOT_FOUND)
        letter, stored = found
        if raw:
            sys.stdout.buffer.write(stored.row.event)
        elif as_json:
            kept = orjson.loads(stored.value)
            _write_json({**kept, **self._view(letter)})
        else:
            render_dead_letter(letter, stored, self._short)
        return 0

    def change(
        self, action: Action, places: Sequence[str], chosen: DeadLetterFilter, by: str, yes: bool, as_json: bool
    ) -> int:
        """Send letters again, or drop them: those at `places`, or, without any, all that are open and `chosen`."""
        letters = asyncio.run(self._chosen(places, chosen))
        if isinstance(letters, str):
            return _refuse(letters, NOT_FOUND)
        if not letters:
            _say("no such dead letters", as_json)
            return 0
        words = {"retry": "send again", "drop": "drop"}[action]
        if len(letters) > 1 and not yes:
            click.confirm(f"{words} {len(letters)} letters ({_reasons(letters)})?", abort=True, err=True)
        done: list[DeadLetterResult] = []

        def tell(each: DeadLetterResult) -> None:
            done.append(each)
            if not as_json:
                click.echo(self._sentence(action, each))

        asyncio.run(self._change(action, letters, by, tell))
        skipped = sum(bool(each.skipped) for each in done)
        if as_json:
            _write_json([self._done_view(action, by, each) for each in done])
        elif len(done) > 1:
            click.echo(f"{len(done) - skipped} {'sent again' if action == 'retry' else 'dropped'}, {skipped} skipped")
        return 1 if skipped else 0

    # Reading

    async def _fold(self, asked: Callable[[DeadLetterSummary], bool], since: int | None = None) -> DeadLetterFold:
        await wait_for_kafka(self._settings.kafka, **self._settings.kafka_access())
        fold = DeadLetterFold(asked)
        async with announce_if_slow(_progress, "reading the dead letters"):
            async for stored in self._box.rows(None if since is None else since - _CLOCKS_DIFFER_MS):
                fold.take(stored)
        return fold

    async def _found(self, chosen: DeadLetterFilter) -> tuple[list[DeadLetterSummary], int]:
        wanted = DeadLetterQuery(
            chosen.reasons,
            tuple(map(self._full, chosen.topics)),
            since="" if chosen.since is None else rfc3339(chosen.since),
            until=TIME_MAX if chosen.until is None else rfc3339(chosen.until),
        )
        fold = await self._fold(wanted.has, chosen.since)
        return fold.letters(ALL_STATES if chosen.all_states else ("open",)), fold.forgotten

    async def _one(self, name: str) -> tuple[DeadLetterSummary, StoredDeadLetter] | None:
        place = self._place_of(name)
        letter = _newest(await self._fold(lambda each: place in (each.origin, each.place)))
        if letter is not None:
            async for stored in self._box.rows(places=[letter.place]):
                return letter, stored
        return None

    async def _chosen(self, names: Sequence[str], chosen: DeadLetterFilter) -> list[DeadLetterSummary] | str:
        """The letters to change, oldest first; a sentence where one of `names` cannot be."""
        if not names:
            return (await self._found(chosen))[0][: chosen.limit or CHANGED_DEFAULT]
        places = {self._place_of(name): name for name in names}
        fold = await self._fold(lambda each: each.origin in places or each.place in places)
        found: dict[RecordPlace, DeadLetterSummary] = {}
        for place, name in places.items():
            letter = _newest(fold, place)
            if letter is None:
                return f"there is no dead letter {name}"
            if letter.state in CLOSED_STATES:
                return f"the dead letter {name} was {letter.state} by {letter.by or 'somebody'} at {letter.done_at}"
            found[letter.place] = letter
        return list(found.values())

    async def _change(self, action: Action, letters: list[DeadLetterSummary], by: str, tell: Any) -> None:
        returning = DeadLetterProcessor(self._box, self._settings.kafka_client(), self._settings.app_id, by)
        await (returning.retry if action == "retry" else returning.drop)(letters, tell)

    # Names: shown without the app id, taken with or without it.

    def _place_of(self, name: str) -> RecordPlace:
        """TOPIC/PARTITION/OFFSET of an event, or PARTITION/OFFSET of a letter."""
        match = _PLACE.fullmatch(name)
        if match is None:
            raise click.UsageError(f"{name!r} is neither TOPIC/PARTITION/OFFSET nor PARTITION/OFFSET")
        topic = self._full(match["topic"] or DEAD_LETTERS.name)
        return RecordPlace(topic, int(match["partition"]), int(match["offset"]))

    def _full(self, topic: str) -> str:
        ours = {each.name: each.full_name(self._settings.app_id) for each in TOPICS}
        return ours.get(topic, topic)

    def _short(self, place: RecordPlace) -> str:
        name = place.topic.removeprefix(f"{self._settings.app_id}-")
        return f"{name}/{place.partition}/{place.offset}"

    def _sentence(self, action: Action, done: DeadLetterResult) -> str:
        what = f"{self._short(done.letter.origin)} ({escape_unprintable(done.letter.reason)})"
        if done.skipped:
            return f"{what}: skipped: {done.skipped}"
        if action == "drop":
            return f"{what}: dropped"
        return f"{what}: sent again as {done.to.removeprefix(f'{self._settings.app_id}-')}"

    def _done_view(self, action: Action, by: str, done: DeadLetterResult) -> dict[str, Any]:
        view = {**self._view(done.letter), "to": done.to or None, "skipped": done.skipped or None}
        if not done.skipped:
            view |= {"state": _STATES[action], "by": by}
        return view

    def _view(self, letter: DeadLetterSummary) -> dict[str, Any]:
        return {
            "reason": letter.reason,
            "detail": letter.detail,
            "path": letter.path,
            "topic": letter.origin.topic,
            "partition": letter.origin.partition,
            "offset": letter.origin.offset,
            "at": letter.at,
            "key": None if letter.key is None else letter.key.decode(errors="replace"),
            "bytes": letter.size,
            "letter": {"partition": letter.place.partition, "offset": letter.place.offset},
            "state": letter.state,
            "by": letter.by or None,
            "done_at": letter.done_at or None,
        }


def _newest(fold: DeadLetterFold, place: RecordPlace | None = None) -> DeadLetterSummary | None:
    """The newest letter at `place`, its own or its event's; of all if None."""
    for letters in fold.by_origin.values():
        for letter in reversed(letters):
            if place is None or place in (letter.origin, letter.place):
                return letter
    return None


def _reasons(letters: Sequence[DeadLetterSummary]) -> str:
    counts: dict[str, int] = {}
    for letter in letters:
        counts[letter.reason] = counts.get(letter.reason, 0) + 1
    return ", ".join(f"{escape_unprintable(reason)} {count}" for reason, count in sorted(counts.items()))


def _write_json(document: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))


def _say(words: str, as_json: bool) -> None:
    if as_json:
        _write_json([])
    else:
        click.echo(words)


def _refuse(words: str, status: int) -> int:
    click.echo(f"stocktide: {words}", err=True)
    return status


def _progress(words: str) -> None:
    if sys.stderr.isatty():
        click.echo(words, err=True)
