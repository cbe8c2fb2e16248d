"""The group `stocktide dead-letters` of the command line: `list`, `show`, `retry`, `drop`.

In: a command line. Out: calls of `stocktide.ops.dead_letters.command`.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import Any

import click

from stocktide.cli_options import TimeParam
from stocktide.discovery import LocateSystem, for_system

# `command` is loaded only when it is needed.
_CHANGED_MAX = 100_000


def dead_letter_group() -> click.Group:
    """The group."""

    @click.group("dead-letters", short_help="Look at what was refused; send it again or drop it.")
    def group() -> None:
        """Look at what was refused; send it again, or be done with it."""

    @group.command("list", short_help="List them, newest first.")
    @_filters(limit="The newest N. [50]")
    @click.option("--all-states", is_flag=True, help="Also those that were sent again or dropped.")
    @click.option("--json", "as_json", is_flag=True, help="As JSON.")
    @for_system()
    def list_letters(locate: LocateSystem, as_json: bool, **chosen: Any) -> int:
        """List them, newest first."""
        from stocktide.ops.dead_letters.command import DeadLetterCommand
        from stocktide.tables.dead_letters.reader import DeadLetterFilter

        return DeadLetterCommand(locate().settings).list_matching(DeadLetterFilter(**chosen), as_json)

    @group.command(short_help="Show one whole, its bytes too.")
    @click.argument("place", metavar="TOPIC/PARTITION/OFFSET")
    @click.option("--json", "as_json", is_flag=True, help="The row as it is kept, as JSON.")
    @click.option("--raw", is_flag=True, help="The event's bytes and nothing else.")
    @for_system()
    def show(locate: LocateSystem, **options: Any) -> int:
        """Show one whole, its bytes too.

        It is named by where its event lay; PARTITION/OFFSET alone is the letter's own place.
        """
        from stocktide.ops.dead_letters.command import DeadLetterCommand

        return DeadLetterCommand(locate().settings).show(**options)

    @group.command(short_help="Send events again to where they came from.")
    @_changing("Send up to N, the oldest first. [1000]")
    @for_system()
    def retry(locate: LocateSystem, **options: Any) -> int:
        """Send events again to where they came from.

        The bytes and the key are the same. One that is refused again comes back as a new letter that names the same
        event. Ids make it safe: what counted already does not count twice.
        """
        return _change("retry", locate, **options)

    @group.command(short_help="Be done with letters.")
    @_changing("Drop up to N, the oldest first. [1000]")
    @for_system()
    def drop(locate: LocateSystem, **options: Any) -> int:
        """Be done with letters: `list` leaves them out."""
        return _change("drop", locate, **options)

    return group


def _change(
    action: Any,
    locate: LocateSystem,
    places: tuple[str, ...],
    everything: bool,
    by: str | None,
    yes: bool,
    as_json: bool,
    **chosen: Any,
) -> int:
    from stocktide.ops.dead_letters.command import ChangeOptions, DeadLetterCommand
    from stocktide.tables.dead_letters.reader import DeadLetterFilter

    if bool(places) == everything:
        raise click.UsageError("say which letters, or --all for all that the filters leave")
    if places and any(value for value in chosen.values()):
        raise click.UsageError("filters go with --all")
    actor = by or getpass.getuser()
    settings = locate(f"dead-letters {action}").settings
    options = ChangeOptions(action, places, DeadLetterFilter(**chosen), actor, yes, as_json)
    return DeadLetterCommand(settings).change(options)


def _filters(limit: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return _stacked(
        click.option("--reason", "reasons", multiple=True, metavar="CODE", help="Refused for this; may be repeated."),
        click.option("--topic", "topics", multiple=True, help="Events of this topic; may be repeated."),
        click.option("--since", type=TimeParam(), help="Refused since then: 2026-11-24T19:26:01Z, 2026-11-24, 2h, 3d."),
        click.option("--until", type=TimeParam(ends=True), help="Refused until then."),
        click.option("--limit", type=click.IntRange(1, _CHANGED_MAX), metavar="N", help=limit),
    )


def _changing(limit: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return _stacked(
        click.argument("places", nargs=-1, metavar="[TOPIC/PARTITION/OFFSET]..."),
        click.option("--all", "everything", is_flag=True, help="All open ones that the filters leave."),
        _filters(limit),
        click.option("--by", metavar="NAME", help="Who says so. [the user of this machine]"),
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--json", "as_json", is_flag=True, help="What was done, as JSON."),
    )


def _stacked(*decorators: Callable[[Any], Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Several decorators as one, in the order in which `--help` shows them."""

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorated
