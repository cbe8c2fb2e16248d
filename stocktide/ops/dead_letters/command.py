"""`stocktide dead-letters`: lists and shows dead letters, sends their events again, or drops them.

In: settings, and the options of one subcommand. Out: tables or JSON on standard output, and an exit status: 1 where
something could not be done. `NotFound` where there is no such dead letter.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import click
import orjson
from msgspec import structs
from rich.console import Console

from stocktide.errors import NotFound
from stocktide.ops.dead_letters.render import escape_unprintable, render_dead_letter, render_dead_letters
from stocktide.progress import announce_if_slow, echo_on_terminal
from stocktide.settings import Settings
from stocktide.streams.kafka.record_origin import RecordPlace
from stocktide.streams.topics import DEAD_LETTERS, TOPICS
from stocktide.tables.dead_letters.reader import (
    ALL_STATES,
    CLOSED_STATES,
    DeadLetterFilter,
    DeadLetterFold,
    DeadLetterSummary,
    DeadLetterTopic,
    State,
    StoredDeadLetter,
)
from stocktide.tables.dead_letters.retry import DeadLetterProcessor, DeadLetterResult
from stocktide.wait_for_servers import wait_for_kafka

# Without --limit: as many as a person can check.
CHANGED_DEFAULT = 1_000
LISTED_DEFAULT = 50
# The clocks of Kafka and of the writer may differ by this much.
_CLOCKS_DIFFER_MS = 600_000
_PLACE = re.compile(r"(?:(?P<topic>[A-Za-z0-9._-]{1,249})/)?(?P<partition>\d{1,9})/(?P<offset>\d{1,18})")

Action = Literal["retry", "drop"]
_STATES: dict[Action, State] = {"retry": "retried", "drop": "dropped"}


@dataclass(frozen=True, slots=True)
class ChangeOptions:
    """`retry` or `drop`: the dead letters at `places`, or without any all open ones that match the filter. `by` goes
    into the mark; `yes` skips the question."""

    action: Action
    places: Sequence[str]
    filter: DeadLetterFilter
    by: str
    yes: bool = False
    as_json: bool = False


class DeadLetterCommand:
    """The subcommands on one installation. Each returns the exit status, and raises NotFound, ServerUnreachable,
    KafkaError, click.UsageError. The topics of a filter are with or without the app id."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = DeadLetterTopic(DEAD_LETTERS.full_name(settings.app_id), settings.kafka_client())

    def list_matching(self, wanted: DeadLetterFilter, as_json: bool) -> int:
        """Print the matching dead letters, newest first."""
        found, evicted = asyncio.run(self._find(wanted))
        limit = wanted.limit or LISTED_DEFAULT
        shown = found[: -limit - 1 : -1]
        if as_json:
            _write_json([_view(letter) for letter in shown])
            return 0
        if not shown:
            click.echo("no dead letters" if wanted == DeadLetterFilter() else "no such dead letters")
            return 0
        render_dead_letters(Console(), shown, self._short, wanted.all_states)
        if len(found) > len(shown):
            click.echo(f"{len(shown)} of {len(found)}, the newest; --limit shows more")
        if evicted:
            click.echo(f"{evicted} older ones were too many to be looked at: filters reach them")
        return 0

    def show(self, place: str, as_json: bool, raw: bool) -> int:
        """Print the dead letter at a place with its event; `raw`: the event's bytes and nothing else."""
        letter, stored = asyncio.run(self._find_one(place))
        if raw:
            sys.stdout.buffer.write(stored.row.event)
        elif as_json:
            _write_json({**orjson.loads(stored.value), **_view(letter)})
        else:
            render_dead_letter(letter, stored, self._short)
        return 0

    def change(self, options: ChangeOptions) -> int:
        """Send events again, or drop dead letters."""
        chosen = asyncio.run(self._choose(options.places, options.filter))
        if not chosen:
            if options.as_json:
                _write_json([])
            else:
                click.echo("no such dead letters")
            return 0
        verb = {"retry": "send again", "drop": "drop"}[options.action]
        if len(chosen) > 1 and not options.yes:
            click.confirm(f"{verb} {len(chosen)} letters ({_count_reasons(chosen)})?", abort=True, err=True)
        results: list[DeadLetterResult] = []

        def report(result: DeadLetterResult) -> None:
            results.append(result)
            if not options.as_json:
                click.echo(self._sentence(options.action, result))

        asyncio.run(self._process(options, chosen, report))
        skipped = sum(bool(result.skipped) for result in results)
        if options.as_json:
            _write_json([_result_view(options, result) for result in results])
        elif len(results) > 1:
            done = "sent again" if options.action == "retry" else "dropped"
            click.echo(f"{len(results) - skipped} {done}, {skipped} skipped")
        return 1 if skipped else 0

    async def _read(self, matches: Callable[[DeadLetterSummary], bool], since: int | None = None) -> DeadLetterFold:
        await wait_for_kafka(self._settings.kafka, **self._settings.kafka_access())
        fold = DeadLetterFold(matches)
        async with announce_if_slow(echo_on_terminal, "reading the dead letters"):
            async for stored in self._topic.rows(None if since is None else since - _CLOCKS_DIFFER_MS):
                fold.add(stored)
        return fold

    async def _find(self, chosen: DeadLetterFilter) -> tuple[list[DeadLetterSummary], int]:
        wanted = structs.replace(chosen, topics=tuple(map(self._full, chosen.topics)))
        fold = await self._read(wanted.matches, chosen.since)
        return fold.letters(ALL_STATES if chosen.all_states else ("open",)), fold.evicted

    async def _find_one(self, name: str) -> tuple[DeadLetterSummary, StoredDeadLetter]:
        place = self._parse_place(name)
        letter = (await self._read(lambda each: place in (each.origin, each.place))).newest_at(place)
        if letter is not None:
            async for stored in self._topic.rows(places=[letter.place]):
                return letter, stored
        raise NotFound(f"there is no dead letter {name}")

    async def _choose(self, names: Sequence[str], chosen: DeadLetterFilter) -> list[DeadLetterSummary]:
        """The dead letters to change, oldest first. Raises NotFound where one of `names` cannot be changed."""
        if not names:
            return (await self._find(chosen))[0][: chosen.limit or CHANGED_DEFAULT]
        places = {self._parse_place(name): name for name in names}
        fold = await self._read(lambda each: each.origin in places or each.place in places)
        found: dict[RecordPlace, DeadLetterSummary] = {}
        for place, name in places.items():
            letter = fold.newest_at(place)
            if letter is None:
                raise NotFound(f"there is no dead letter {name}")
            if letter.state in CLOSED_STATES:
                by = letter.by or "an unnamed actor"
                raise NotFound(f"the dead letter {name} was {letter.state} by {by} at {letter.done_at}")
            found[letter.place] = letter
        return list(found.values())

    async def _process(
        self, options: ChangeOptions, chosen: list[DeadLetterSummary], report: Callable[[DeadLetterResult], None]
    ) -> None:
        processor = DeadLetterProcessor(self._topic, self._settings.kafka_client(), self._settings.app_id, options.by)
        await (processor.retry if options.action == "retry" else processor.drop)(chosen, report)

    # Topic names are shown without the app id, and accepted with or without it.

    def _parse_place(self, name: str) -> RecordPlace:
        """TOPIC/PARTITION/OFFSET of an event, or PARTITION/OFFSET of a dead letter."""
        match = _PLACE.fullmatch(name)
        if match is None:
            raise click.UsageError(f"{name!r} is neither TOPIC/PARTITION/OFFSET nor PARTITION/OFFSET")
        topic = self._full(match["topic"] or DEAD_LETTERS.name)
        return RecordPlace(topic, int(match["partition"]), int(match["offset"]))

    def _full(self, topic: str) -> str:
        return {each.name: each.full_name(self._settings.app_id) for each in TOPICS}.get(topic, topic)

    def _short(self, place: RecordPlace) -> str:
        name = place.topic.removeprefix(f"{self._settings.app_id}-")
        return f"{name}/{place.partition}/{place.offset}"

    def _sentence(self, action: Action, result: DeadLetterResult) -> str:
        subject = f"{self._short(result.letter.origin)} ({escape_unprintable(result.letter.reason)})"
        if result.skipped:
            return f"{subject}: skipped: {result.skipped}"
        if action == "drop":
            return f"{subject}: dropped"
        return f"{subject}: sent again as {result.to.removeprefix(f'{self._settings.app_id}-')}"


def _view(letter: DeadLetterSummary) -> dict[str, Any]:
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


def _result_view(options: ChangeOptions, result: DeadLetterResult) -> dict[str, Any]:
    view = {**_view(result.letter), "to": result.to or None, "skipped": result.skipped or None}
    if not result.skipped:
        view |= {"state": _STATES[options.action], "by": options.by}
    return view


def _count_reasons(letters: Sequence[DeadLetterSummary]) -> str:
    counts = Counter(letter.reason for letter in letters)
    return ", ".join(f"{escape_unprintable(reason)} {count}" for reason, count in sorted(counts.items()))


def _write_json(document: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))
