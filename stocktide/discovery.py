"""Which system a command is for: the one mechanism of every command that asks or changes a system (decision 0012).

In: the settings, and what the options say. Out: a `TargetSystem`: the settings with its addresses.

1. `--data` or `--api` names a running system: its addresses hold, whatever the environment says.
2. What the options --kafka, --redis and --app-id say, else their variables of the environment, and STOCKTIDE_DATA and
   STOCKTIDE_PORT, leaves only those running systems that agree with it.
3. One is left: what nothing says is taken from it. Several are left: the command fails and lists them. None is left:
   the settings hold as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import click

from stocktide.errors import CommandError
from stocktide.settings import Settings
from stocktide.up.run_file import LOOPBACK, RunningSystem, find_running_system, find_running_systems
from stocktide.wait_for_servers import redact_url

# As for a usage error: what was asked is not clear, and nothing was done.
AMBIGUOUS = 2


class AmbiguousTarget(CommandError):
    """It is not clear which system is meant. The message lists those that run."""

    exit_status = AMBIGUOUS


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemSelector:
    """What the options say; None where they say nothing."""

    data: Path | None = None
    api: str | None = None
    kafka: str | None = None
    redis: str | None = None
    app_id: str | None = None


@dataclass(frozen=True, slots=True)
class TargetSystem:
    """The system: `settings` point at it, `api` is its URL. `running`: the `up` of this machine that it is, if any;
    `why`: how it was chosen."""

    settings: Settings
    api: str
    running: RunningSystem | None
    why: str

    def described(self, redis: str | None = None) -> Iterator[str]:
        """It in lines, for whoever is about to change it. `redis`: that of a drill, instead."""
        if self.running is not None:
            yield f"  data    {self.running.data}"
        yield f"  app id  {self.settings.app_id}"
        yield f"  Kafka   {self.settings.kafka}"
        yield f"  Redis   {redact_url(redis or self.settings.redis)}"
        yield f"  chosen  {self.why}"


def locate(settings: Settings, named: SystemSelector, environ: Mapping[str, str] | None = None) -> TargetSystem:
    """The system that is meant. Raises AmbiguousTarget, CommandError, and click.BadParameter where `api` is no URL."""
    said = _Said(named, settings, os.environ if environ is None else environ)
    systems = find_running_systems()
    if named.data is not None or named.api is not None:
        chosen = _named(named, systems)
        if chosen is not None and (contradiction := said.by_option(chosen)):
            raise AmbiguousTarget(f"{contradiction} is not that of the system on {chosen.data}, which is named too")
    else:
        fitting = [system for system in systems if said.fits(system)]
        if len(fitting) > 1:
            raise AmbiguousTarget(_several(fitting))
        chosen = fitting[0] if fitting else None
        if chosen is None and systems and said.place and not said.servers:
            raise AmbiguousTarget(f"no running system fits {said.place}{_listed(systems)}")
    if chosen is not None:
        return _target_of(chosen, settings, said)
    if named.api is not None and systems and not said.servers:
        raise AmbiguousTarget(f"no `stocktide up` of this machine serves {named.api}{_listed(systems)}")
    return TargetSystem(
        replace(settings, **said.options),
        _bare(named.api) if named.api is not None else f"http://127.0.0.1:{settings.port}",
        None,
        "by options and environment" if said.servers else "the defaults: no running system was found",
    )


def _target_of(system: RunningSystem, settings: Settings, said: _Said) -> TargetSystem:
    ready = system.ready
    settings = replace(
        settings,
        data=system.data,
        port=ready.port,
        partitions=settings.partitions if said.has("partitions") else system.partitions,
        # Spelt as they were given: a user or a password in a URL may differ from what `up` was given.
        kafka=said.spelt.get("kafka", ready.kafka),
        redis=said.spelt.get("redis", ready.redis),
        app_id=said.spelt.get("app_id", ready.app_id),
    )
    if settings.app_id != ready.app_id:
        return TargetSystem(settings, said.api or ready.api, None, f"the servers of the system on {system.data}")
    return TargetSystem(settings, said.api or ready.api, system, said.why)


class _Said:
    """What options and environment say about the system."""

    def __init__(self, named: SystemSelector, settings: Settings, environ: Mapping[str, str]) -> None:
        self._is_named = named.data is not None or named.api is not None
        self._named = named
        self._environ = environ
        self._settings = settings
        self.options = {
            name: value for name in ("kafka", "redis", "app_id") if (value := getattr(named, name)) is not None
        }
        by_environment = {name: str(getattr(settings, name)) for name in ("kafka", "redis", "app_id") if self.has(name)}
        self.kept = {**by_environment, **self.options}
        self.api = _bare(named.api) if named.api is not None else None

    def has(self, name: str) -> bool:
        """Whether the environment sets it."""
        return f"STOCKTIDE_{name.upper()}" in self._environ

    @property
    def servers(self) -> bool:
        """Whether a server's address was said."""
        return "kafka" in self.kept or "redis" in self.kept

    @property
    def spelt(self) -> dict[str, str]:
        """What of it holds for a system that was chosen: a named one does not heed the environment."""
        return self.options if self._is_named else self.kept

    @property
    def place(self) -> str:
        """What names a running system otherwise than by its servers; empty where nothing does."""
        names = [name for name in ("DATA", "PORT", "APP_ID") if self.has(name) and name.lower() not in self.options]
        option = [f"--app-id {self.options['app_id']}"] if "app_id" in self.options else []
        return " and ".join([*option, *(f"STOCKTIDE_{name}={self._environ[f'STOCKTIDE_{name}']}" for name in names)])

    @property
    def why(self) -> str:
        """How a running system was chosen."""
        if self._is_named:
            return f"named with {'--data' if self._named.data is not None else '--api'}"
        if self.kept or self.place:
            return "the running system that fits the options and the environment"
        return "nothing was named, and it is the only one that runs on this machine"

    def fits(self, system: RunningSystem) -> bool:
        """Whether a running system agrees with all of it."""
        return (
            all(_same(name, value, getattr(system.ready, name)) for name, value in self.kept.items())
            and (not self.has("data") or self._settings.data.resolve() == system.data)
            and (not self.has("port") or not self._settings.port or self._settings.port == system.ready.port)
        )

    def by_option(self, system: RunningSystem) -> str | None:
        """The option that contradicts a system that is named too; another app may lie on its servers."""
        for name in ("kafka", "redis"):
            if name in self.options and not _same(name, self.options[name], getattr(system.ready, name)):
                return f"--{name} {redact_url(self.options[name])}"
        return None


def _named(named: SystemSelector, systems: Sequence[RunningSystem]) -> RunningSystem | None:
    """The running system that --data or --api names; None for an API that none of this machine serves."""
    by_api = [system for system in systems if named.api is not None and _serves(system, named.api)]
    if named.data is None:
        return by_api[0] if by_api else None
    found = find_running_system(named.data)
    if found is None:
        raise AmbiguousTarget(f"no `stocktide up` runs on {named.data.resolve()}{_listed(systems)}")
    if named.api is not None and not _serves(found, named.api):
        raise AmbiguousTarget(
            f"--api {named.api} is not that of the system on {found.data}, which is {found.ready.api}"
        )
    return found


def _serves(system: RunningSystem, api: str) -> bool:
    asked, own = _parts(api), urlsplit(system.ready.api)
    same_host = asked[0] == own.hostname or (asked[0] in LOOPBACK and own.hostname in LOOPBACK)
    return same_host and asked[1] == own.port


def _parts(api: str) -> tuple[str, int]:
    try:
        url = urlsplit(api if "://" in api else f"http://{api}")
        port = url.port or (443 if url.scheme == "https" else 80)
    except ValueError as error:
        raise click.BadParameter(f"{api!r} is no URL: {error}", param_hint="--api") from error
    if url.scheme not in ("http", "https") or not url.hostname:
        raise click.BadParameter(f"{api!r} is no URL, as in http://127.0.0.1:8080", param_hint="--api")
    return url.hostname, port


def _bare(api: str) -> str:
    _parts(api)
    return (api if "://" in api else f"http://{api}").rstrip("/")


def _same(name: str, value: str, other: str) -> bool:
    if name == "kafka":
        return _brokers(value) == _brokers(other)
    return same_redis(value, other) if name == "redis" else value == other


def _brokers(addresses: str) -> set[str]:
    return {address.strip().replace("localhost:", "127.0.0.1:") for address in addresses.split(",")}


def same_redis(url: str, other: str) -> bool:
    """Whether two URLs name one database of one server."""

    def place(each: str) -> tuple[str, int, str]:
        try:
            parts = urlsplit(each)
            host = "127.0.0.1" if parts.hostname in LOOPBACK else (parts.hostname or "")
            return host, parts.port or 6379, parts.path.strip("/") or "0"
        except ValueError:
            return each, 0, ""

    return place(url) == place(other)


def _several(systems: Sequence[RunningSystem]) -> str:
    return f"{len(systems)} systems run here, and nothing says which one is meant{_listed(systems)}"


def _listed(systems: Sequence[RunningSystem]) -> str:
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
