"""The options by which every command is told which system it is for, and what it is handed: a way to find that system.

A command that changes something says first what it changes, on standard error: `locate(changes=...)`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import click

from stocktide.cli_options import ServerOption, SystemOption
from stocktide.discovery import SystemSelector, TargetSystem, locate
from stocktide.settings import Settings

_FILE = click.Path(path_type=Path)
_FOUND = "[that of the running system]"


class LocateSystem(Protocol):
    """Finds the system once it is known that the other options make sense. Raises CommandError."""

    def __call__(self, changes: str = "", redis: str | None = None) -> TargetSystem:
        """`changes`: the command that changes the system, which is then told. `redis`: it changes that one instead."""
        ...


def for_system(*, redis: bool = True) -> Callable[[Callable[..., int]], Callable[..., None]]:
    """A decorator: the command gets a `LocateSystem`, and exits with the status that it returns. `redis`: with
    --redis."""

    def decorated(command: Callable[..., int]) -> Callable[..., None]:
        @functools.wraps(command)
        def wrapped(
            *, data: Path | None, api: str | None, kafka: str | None, app_id: str | None, **options: Any
        ) -> None:
            url = options.pop("redis") if redis else None
            named = SystemSelector(data=data, api=api, kafka=kafka, redis=url, app_id=app_id)
            settings = Settings.from_environment()
            sys.exit(command(functools.partial(_locate, settings, named), **options))

        for option in reversed(_options(redis)):
            wrapped = option(wrapped)
        return wrapped

    return decorated


def _options(redis: bool) -> list[Callable[[Any], Any]]:
    options: list[Callable[[Any], Any]] = [
        click.option("--data", cls=SystemOption, type=_FILE, help="The running system with this data folder."),
        click.option("--api", cls=SystemOption, metavar="URL", help="The running system that serves this API."),
        click.option("--kafka", cls=ServerOption, metavar="HOST:PORT", help=f"Kafka. {_FOUND}"),
    ]
    if redis:
        options.append(click.option("--redis", cls=ServerOption, metavar="URL", help=f"Redis. {_FOUND}"))
    options.append(click.option("--app-id", metavar="NAME", help=f"Prefix of topics and keys. {_FOUND}"))
    return options


def _locate(settings: Settings, named: SystemSelector, changes: str = "", redis: str | None = None) -> TargetSystem:
    target = locate(settings, named)
    target.settings.check()
    if changes:
        click.echo("\n".join([f"{changes} changes this system:", *target.described(redis)]), err=True)
    return target
