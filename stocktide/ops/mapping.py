"""The group `stocktide mapping` of the command line: `test` a mapping on a payload, `replay` stored webhooks.

In: a command line. Out: events or the rejection, as JSON; records of the topic `intake`, written again.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from stocktide.cli_options import TimeParam
from stocktide.discovery import LocateSystem, for_system
from stocktide.errors import CommandError
from stocktide.settings import Settings

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def mapping_group() -> click.Group:
    """The group."""

    @click.group("mapping", short_help="Test a mapping; map stored webhooks again.")
    def group() -> None:
        """Test a mapping of a platform's webhooks, or map the stored ones again."""

    @group.command(short_help="Print the events of a payload, or why there are none.")
    @click.argument("file", type=_FILE)
    @click.argument("payload", type=_FILE)
    @click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header that the mapping reads.")
    @click.option("--query", "query", multiple=True, metavar="NAME=VALUE", help="A parameter that the mapping reads.")
    def test(file: Path, payload: Path, headers: tuple[str, ...], query: tuple[str, ...]) -> None:
        """Map PAYLOAD by the mapping FILE: one event a line. A rejection goes to stderr, with status 1."""
        raise SystemExit(run_test(file, payload, dict(_pair(each, ":") for each in headers), dict(map(_pair, query))))

    @group.command(short_help="Map stored webhooks again, after a mapping was corrected.")
    @click.argument("name")
    @click.option("--since", type=TimeParam(), help="Only those that came since then. [all that are stored]")
    @for_system()
    def replay(locate: LocateSystem, name: str, since: int | None) -> int:
        """Write the stored webhooks of NAME to the topic `intake` again. What counted already does not count twice."""
        count = asyncio.run(run_replay(locate().settings, name, since))
        click.echo(f"{count} webhooks of {name} are mapped again")
        return 0

    return group


def _pair(text: str, separator: str = "=") -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not found:
        raise click.BadParameter(f"{text!r} has no {separator!r}")
    return name.strip(), value.strip()


def run_test(file: Path, payload: Path, headers: dict[str, str], query: dict[str, str]) -> int:
    """Print the events, and the rejections; 1 if there are any. Raises MappingError."""
    from stocktide.agents.mapping.agent import Mapper
    from stocktide.streams.contract.times import now_ms
    from stocktide.streams.mapping.envelope import Envelope
    from stocktide.streams.mapping.mapping_reader import read_mapping

    mapping = read_mapping(file)
    lowered = {name.lower(): value for name, value in headers.items()}
    envelope = Envelope(mapping.name, now_ms(), lowered, query, payload.read_bytes())
    events, rejections = asyncio.run(Mapper(mapping).map(envelope))
    for event in events:
        click.echo(event.raw.decode())
    for rejection in rejections:
        at = f" (at `{rejection.path}`)" if rejection.path else ""
        click.echo(f"rejected: {rejection.code}: {rejection}{at}", err=True)
    return 1 if rejections else 0


async def run_replay(settings: Settings, name: str, since: int | None) -> int:
    """Write the stored webhooks of `name` again, the oldest first; how many. `since` is ms since the epoch.

    Raises CommandError.
    """
    from aiokafka.errors import KafkaError

    from stocktide.api.event_producer import make_producer
    from stocktide.streams.kafka.read_topic import read_topic, topic_consumer
    from stocktide.streams.topics import INTAKE

    topic, count = INTAKE.full_name(settings.app_id), 0
    producer = make_producer(settings.kafka, **settings.kafka_access())
    try:
        await producer.start()
        async with topic_consumer(settings.kafka, topic, **settings.kafka_access()) as consumer:
            async for _, records in read_topic(consumer, records_max=100):
                kept = [each for each in records if each.key == name.encode() and each.timestamp >= (since or 0)]
                sent: list[Any] = [await producer.send(topic, key=each.key, value=each.value) for each in kept]
                await asyncio.gather(*sent)
                count += len(kept)
    except (KafkaError, OSError) as error:
        raise CommandError(f"the webhooks cannot be written again: {error}") from error
    finally:
        await producer.stop()
    return count
