"""Finds the system that a command is for: one mechanism for every command (decision 0012).

In: the settings and the command's options. Out: a `TargetSystem`: the settings with the system's addresses.

1. `--data` or `--api` names a running system. Its addresses hold, whatever the environment says.
2. Otherwise --kafka, --redis and --app-id, else their variables, and STOCKTIDE_DATA and STOCKTIDE_PORT, must match a
   running system.
3. One matches: it supplies every address that was not given. Several match: the command fails and lists them. None
   matches: the settings hold as they are.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import click

from stocktide.cli_options import ServerOption, SystemOption
from stocktide.errors import CommandError
from stocktide.security import redact_url
from stocktide.settings import Settings
from stocktide.up.run_file import LOOPBACK, SystemDescription, find_running_system, find_running_systems

# As for a usage error: the request is unclear, and nothing was done.
AMBIGUOUS = 2

_FOUND = "[that of the running system]"


class AmbiguousTarget(CommandError):
    """It is not clear which system is meant. The message lists those that run."""

    exit_status = AMBIGUOUS


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemSelector:
    """The options that select a system; None where one is not given."""

    data: Path | None = None
    api: str | None = None
    kafka: str | None = None
    redis: str | None = None
    app_id: str | None = None


@dataclass(frozen=True, slots=True)
class TargetSystem:
    """The selected system: `settings` with its addresses, the URL of its `api`, the local `stocktide up` that runs it
    if any, and why it was selected."""

    settings: Settings
    api: str
    running: SystemDescription | None
    why: str

    def described(self, redis: str | None = None) -> Iterator[str]:
        """Its addresses in lines. `redis` replaces the system's own."""
        if self.running is not None:
            yield f"  data    {self.running.data}"
        yield f"  app id  {self.settings.app_id}"
        yield f"  Kafka   {self.settings.kafka}"
        yield f"  Redis   {redact_url(redis or self.settings.redis)}"
        yield f"  chosen  {self.why}"


class LocateSystem(Protocol):
    """Finds the system, once the command has checked its other options. Raises CommandError."""

    def __call__(self, changes: str = "", redis: str | None = None) -> TargetSystem:
        """`changes`: the command that changes the system, printed with its addresses. `redis`: it changes that one."""
        ...


def for_system(*, redis: bool = True) -> Callable[[Callable[..., int]], Callable[..., None]]:
    """A decorator: adds the options that select a system, passes a `LocateSystem`, and exits with the returned status.
    `redis`: with the option --redis."""

    def decorated(command: Callable[..., int]) -> Callable[..., None]:
        @functools.wraps(command)
        def wrapped(
            *, data: Path | None, api: str | None, kafka: str | None, app_id: str | None, **options: Any
        ) -> None:
            url = options.pop("redis") if redis else None
            selector = SystemSelector(data=data, api=api, kafka=kafka, redis=url, app_id=app_id)
            settings = Settings.from_environment()
            sys.exit(command(functools.partial(_locate, settings, selector), **options))

        for option in reversed(_options(redis)):
            wrapped = option(wrapped)
        return wrapped

    return decorated


def _options(redis: bool) -> list[Callable[[Any], Any]]:
    folder = click.Path(path_type=Path)
    options: list[Callable[[Any], Any]] = [
        click.option("--data", cls=SystemOption, type=folder, help="The running system with this data folder."),
        click.option("--api", cls=SystemOption, metavar="URL", help="The running system that serves this API."),
        click.option("--kafka", cls=ServerOption, metavar="HOST:PORT", help=f"Kafka. {_FOUND}"),
    ]
    if redis:
        options.append(click.option("--redis", cls=ServerOption, metavar="URL", help=f"Redis. {_FOUND}"))
    options.append(click.option("--app-id", metavar="NAME", help=f"Prefix of topics and keys. {_FOUND}"))
    return options


def _locate(settings: Settings, selector: SystemSelector, changes: str = "", redis: str | None = None) -> TargetSystem:
    target = locate(settings, selector)
    target.settings.check()
    _use_key_of(target)
    if changes:
        click.echo("\n".join([f"{changes} changes this system:", *target.described(redis)]), err=True)
    return target


def locate(settings: Settings, selector: SystemSelector, environ: Mapping[str, str] | None = None) -> TargetSystem:
    """The selected system. Raises AmbiguousTarget, CommandError, and click.BadParameter where `api` is no URL."""
    given = _Given(selector, settings, os.environ if environ is None else environ)
    systems = find_running_systems()
    if selector.data is not None or selector.api is not None:
        chosen = _named_system(selector, systems)
        if chosen is not None and (contradiction := given.contradiction(chosen)):
            raise AmbiguousTarget(f"{contradiction} is not that of the system on {chosen.data}, which is named too")
    else:
        matching = [system for system in systems if given.matches(system)]
        if len(matching) > 1:
            several = f"{len(matching)} systems run here, and nothing says which one is meant"
            raise AmbiguousTarget(f"{several}{_list(matching)}")
        chosen = matching[0] if matching else None
        if chosen is None and systems and given.place and not given.has_server:
            raise AmbiguousTarget(f"no running system fits {given.place}{_list(systems)}")
    if chosen is not None:
        return _target_of(chosen, settings, given)
    if selector.api is not None and systems and not given.has_server:
        raise AmbiguousTarget(f"no `stocktide up` of this machine serves {selector.api}{_list(systems)}")
    return TargetSystem(
        replace(settings, **given.options),
        _api_url(selector.api) if selector.api is not None else f"http://127.0.0.1:{settings.port}",
        None,
        "by options and environment" if given.has_server else "the defaults: no running system was found",
    )


def _target_of(system: SystemDescription, settings: Settings, given: _Given) -> TargetSystem:
    ready = system.ready
    settings = replace(
        settings,
        data=system.data,
        port=ready.port,
        partitions=settings.partitions if given.has("partitions") else system.partitions,
        # As they were given: a URL may hold another user or password than the one that `up` was given.
        kafka=given.addresses.get("kafka", ready.kafka),
        redis=given.addresses.get("redis", ready.redis),
        app_id=given.addresses.get("app_id", ready.app_id),
    )
    if settings.app_id != ready.app_id:
        return TargetSystem(settings, given.api or ready.api, None, f"the servers of the system on {system.data}")
    return TargetSystem(settings, given.api or ready.api, system, given.why)


class _Given:
    """What options and environment say about the system."""

    def __init__(self, selector: SystemSelector, settings: Settings, environ: Mapping[str, str]) -> None:
        self._is_named = selector.data is not None or selector.api is not None
        self._selector = selector
        self._environ = environ
        self._settings = settings
        self.options = {
            name: value for name in ("kafka", "redis", "app_id") if (value := getattr(selector, name)) is not None
        }
        by_environment = {name: str(getattr(settings, name)) for name in ("kafka", "redis", "app_id") if self.has(name)}
        self._all = {**by_environment, **self.options}
        # A system that an option names ignores the environment.
        self.addresses: Mapping[str, str] = self.options if self._is_named else self._all
        self.api = _api_url(selector.api) if selector.api is not None else None

    def has(self, name: str) -> bool:
        """Whether the environment sets it."""
        return f"STOCKTIDE_{name.upper()}" in self._environ

    @property
    def has_server(self) -> bool:
        """Whether a server's address was given."""
        return "kafka" in self._all or "redis" in self._all

    @property
    def place(self) -> str:
        """The given data folder, port and app id; empty where there is none."""
        names = [name for name in ("DATA", "PORT", "APP_ID") if self.has(name) and name.lower() not in self.options]
        option = [f"--app-id {self.options['app_id']}"] if "app_id" in self.options else []
        return " and ".join([*option, *(f"STOCKTIDE_{name}={self._environ[f'STOCKTIDE_{name}']}" for name in names)])

    @property
    def why(self) -> str:
        """How a running system was selected."""
        if self._is_named:
            return f"named with {'--data' if self._selector.data is not None else '--api'}"
        if self._all or self.place:
            return "the running system that fits the options and the environment"
        return "nothing was named, and it is the only one that runs on this machine"

    def matches(self, system: SystemDescription) -> bool:
        """Whether a running system agrees with everything that was given."""
        return (
            all(_is_same(name, value, getattr(system.ready, name)) for name, value in self._all.items())
            and (not self.has("data") or self._settings.data.resolve() == system.data)
            and (not self.has("port") or not self._settings.port or self._settings.port == system.ready.port)
        )

    def contradiction(self, system: SystemDescription) -> str | None:
        """The option that contradicts a named system. --app-id cannot: its servers may hold another app."""
        for name in ("kafka", "redis"):
            if name in self.options and not _is_same(name, self.options[name], getattr(system.ready, name)):
                return f"--{name} {redact_url(self.options[name])}"
        return None


def _use_key_of(target: TargetSystem) -> None:
    """Let this command and the processes that it starts use the operator's key, unless the environment names one."""
    key = target.running.ready.keys.get("operator") if target.running is not None else None
    if key is not None:
        from stocktide.client.http import KEY_VARIABLE

        os.environ.setdefault(KEY_VARIABLE, key)


def _named_system(selector: SystemSelector, systems: Sequence[SystemDescription]) -> SystemDescription | None:
    """The running system that --data or --api names; None for an API of another machine."""
    api = selector.api
    if selector.data is None:
        return next((system for system in systems if api is not None and _serves(system, api)), None)
    found = find_running_system(selector.data)
    if found is None:
        raise AmbiguousTarget(f"no `stocktide up` runs on {selector.data.resolve()}{_list(systems)}")
    if api is not None and not _serves(found, api):
        raise AmbiguousTarget(f"--api {api} is not that of the system on {found.data}, which is {found.ready.api}")
    return found


def _serves(system: SystemDescription, api: str) -> bool:
    host, port = _host_and_port(api)
    own = urlsplit(system.ready.api)
    return port == own.port and (host == own.hostname or (host in LOOPBACK and own.hostname in LOOPBACK))


def _host_and_port(api: str) -> tuple[str, int]:
    try:
        url = urlsplit(api if "://" in api else f"http://{api}")
        port = url.port or (443 if url.scheme == "https" else 80)
    except ValueError as error:
        raise click.BadParameter(f"{api!r} is no URL: {error}", param_hint="--api") from error
    if url.scheme not in ("http", "https") or not url.hostname:
        raise click.BadParameter(f"{api!r} is no URL, as in http://127.0.0.1:8080", param_hint="--api")
    return url.hostname, port


def _api_url(api: str) -> str:
    _host_and_port(api)
    return (api if "://" in api else f"http://{api}").rstrip("/")


def _is_same(name: str, value: str, other: str) -> bool:
    if name == "kafka":
        return _brokers(value) == _brokers(other)
    return same_redis(value, other) if name == "redis" else value == other


def _brokers(addresses: str) -> set[str]:
    return {address.strip().replace("localhost:", "127.0.0.1:") for address in addresses.split(",")}


def same_redis(url: str, other: str) -> bool:
    """Whether two URLs name the same database of the same server."""

    def database(each: str) -> tuple[str, int, str]:
        try:
            parts = urlsplit(each)
            host = "127.0.0.1" if parts.hostname in LOOPBACK else (parts.hostname or "")
            return host, parts.port or 6379, parts.path.strip("/") or "0"
        except ValueError:
            return each, 0, ""

    return database(url) == database(other)


def _list(systems: Sequence[SystemDescription]) -> str:
    if not systems:
        return ": no running system was found"
    lines = [".\nName one of these with --data or --api:"]
    for system in systems:
        ready = system.ready
        lines += [
            f"  --data {system.data}",
            f"    --api   {ready.api}",
            f"    app id  {ready.app_id}",
            f"    Kafka   {ready.kafka}",
            f"    Redis   {redact_url(ready.redis)}",
        ]
    return "\n".join(lines)
