"""The settings: one frozen object, read once from the environment (`STOCKTIDE_*`).

In: an environment. Out: `Settings`, or a SettingsError that names the variable. The connections to Kafka and Redis are
`ServerAccess`, in `security`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from stocktide.errors import SettingsError as SettingsError
from stocktide.security import ServerAccess
from stocktide.streams.webhooks.addresses import parse_networks
from stocktide.tables.ledger.limits import LedgerLimits

_PREFIX = "STOCKTIDE_"
# A part of Kafka's topic names, which allow these characters and 249 in all.
_APP_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# What a worker does. AUTO is ALL, but `stocktide up` chooses by the number of cores.
DECIDE, PUBLISH, ALL, AUTO = WORKER_ROLES = ("decide", "publish", "all", "auto")
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
# A value beyond its bound is a mistake, for example in the unit.
_BOUNDS: dict[str, tuple[int, int]] = {
    "port": (0, 65_535),
    "worker_port": (0, 65_535),
    "partitions": (1, 256),
    "replication": (0, 9),
    "publish_interval_ms": (0, 60_000),
    "tick_ms": (10, 60_000),
    "park_seconds": (1, 604_800),
    "approval_seconds": (1, 604_800),
    "policy_approval_skus": (0, 1_000_000_000),
    # A late count reads the movements of at most an hour ahead (tables/ledger/lua/includes/history.lua).
    "future_seconds_max": (0, 3_600),
    "request_seconds": (1, 300),
    "drain_seconds": (0, 600),
    "outbox_max": (1, 1_000_000),
    "restate_seconds": (1, 86_400),
    "audit_interval": (0, 604_800),
    "webhook_failing_seconds": (1, 2_592_000),
    "open": (0, 1),
    "requests_per_second": (0, 1_000_000),
    "connections_max": (10, 1_000_000),
    "connections_per_address_max": (1, 1_000_000),
}
# Variables that other modules read, with their meaning; the tests read those without one. A `*` stands for any text.
READ_ELSEWHERE = {
    "KEY": "the key with which the commands call the API; without it they find the operator's",
    "INTAKE_*_SECRET": "secret of a platform's webhooks, by the name of its mapping; enables that mapping",
    "INTAKE_*_TOKEN": "bearer token of the calls with which a mapping fetches orders",
    "ALERTS_*_SECRET": "secret of a receiver of alerts, by its name",
    "ALERTS_*_URL": "address of a receiver of alerts, by its name",
    "MAPPINGS": "folder of further mappings, for the API and the worker",
    "URL": "address of the API in the examples of the clients; the commands do not read it",
    "FAILPOINTS": "",
    "SOAK_*": "",
    "TEST_*": "",
}
# The likeness of `PRT` and `PORT` is 0.86, that of `REDIS_PORT` and `REDIS_PASSWORD` 0.75.
_MISSPELT = 0.8
_SUGGESTED = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ServerAccess):
    """Every setting with its default. The variable is `STOCKTIDE_` and the field's name in capitals."""

    app_id: str = field(default="stocktide", metadata={"help": "prefix of topics, keys and consumer groups"})
    shards: int = field(default=1, metadata={"help": "this version runs one"})
    data: Path = field(default=Path("data"), metadata={"help": "folder of tables and embedded servers"})
    host: str = field(default="127.0.0.1", metadata={"help": "address the API binds to"})
    port: int = field(default=8080, metadata={"help": "port of the API; 0 picks a free one"})
    worker_port: int = field(default=0, metadata={"help": "port of the worker's /metrics and /readyz; 0 picks"})
    worker_name: str = field(default="worker", metadata={"help": "names the worker's folder below data"})
    worker_role: str = field(
        default=AUTO, metadata={"help": "decide, publish or all; auto: all, and for `up` by the number of cores"}
    )
    partitions: int = field(default=4, metadata={"help": "partitions of topics that are not fixed to one"})
    replication: int = field(default=0, metadata={"help": "replicas of a topic; 0: 3 where there are 3 brokers"})
    publish_interval_ms: int = field(default=100, metadata={"help": "default of the policy field of that name"})
    feed_generation: str = field(
        default="", metadata={"help": "any text; a new one after Kafka's volumes were set back makes feeds begin anew"}
    )
    tick_ms: int = field(default=200, metadata={"help": "how often the expiry step looks for what is due"})
    park_seconds: int = field(default=86_400, metadata={"help": "how long an early event waits for what it needs"})
    approval_seconds: int = field(default=3_600, metadata={"help": "how long a request waits for its approval"})
    policy_approval_skus: int = field(
        default=0, metadata={"help": "a policy that moves the modes of more SKUs needs a second person; 0: none does"}
    )
    future_seconds_max: int = field(default=600, metadata={"help": "how far ahead of our clock an event may be dated"})
    request_seconds: int = field(default=5, metadata={"help": "deadline of an API request"})
    drain_seconds: int = field(
        default=0, metadata={"help": "how long an API that is told to stop serves on, not ready, as its feeds end"}
    )
    outbox_max: int = field(default=2_000, metadata={"help": "batches in the outbox before `busy`"})
    restate_seconds: int = field(
        default=43_200, metadata={"help": "how often every SKU and open order is written to the journal anew"}
    )
    audit_interval: int = field(
        default=21_600, metadata={"help": "seconds between audits by the worker that owns the shard; 0: none"}
    )
    webhook_allow: str = field(default="", metadata={"help": "CIDR blocks that webhooks may call although private"})
    webhook_failing_seconds: int = field(
        default=432_000, metadata={"help": "how long every call of a webhook fails before it is disabled"}
    )
    timezone: str = field(default="UTC", metadata={"help": "whose days daily reports and the health score have"})
    alerts_file: str = field(default="", metadata={"help": "receivers and routes of alerts; empty: none are sent"})
    open: int = field(default=0, metadata={"help": "0: every call of the API needs a key; 1: none, on loopback only"})
    keys_file: str = field(default="", metadata={"help": "the API's keys; empty: access/keys.json below data"})
    origins: str = field(default="", metadata={"help": "origins whose pages may call the API, by comma; *: all"})
    tls_cert: str = field(default="", metadata={"help": "certificate of the API (PEM with its chain); empty: no TLS"})
    tls_key: str = field(default="", metadata={"help": "the key of that certificate (PEM)"})
    requests_per_second: int = field(default=5_000, metadata={"help": "of a key at one API process; 0: no limit"})
    connections_max: int = field(default=12_000, metadata={"help": "to one API process; then idle ones are closed"})
    connections_per_address_max: int = field(default=8_000, metadata={"help": "of one address to one API process"})
    log_level: str = field(default="INFO", metadata={"help": "DEBUG, INFO, WARNING or ERROR"})

    @staticmethod
    def from_environment(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Read the environment; `overrides` that are not None win. Raises SettingsError that names the variable."""
        environ = os.environ if environ is None else environ
        for name, nearest, likeness in _unknown_variables(environ):
            if likeness >= _MISSPELT:
                raise SettingsError(f"{name} is not a setting of Stocktide: is {nearest} meant?")
        values: dict[str, Any] = {}
        for spec in fields(Settings):
            name = f"{_PREFIX}{spec.name.upper()}"
            if (given := environ.get(name)) is not None:
                values[spec.name] = _parse(name, given, type(spec.default))
        values.update({name: value for name, value in overrides.items() if value is not None})
        settings = Settings(**values)
        settings.check()
        return settings

    def zone(self) -> ZoneInfo:
        """The time zone of days. Raises ValueError, KeyError and OSError if there is none of this name."""
        return ZoneInfo(self.timezone)

    def check(self) -> None:
        """Refuse what cannot work. Raises SettingsError."""
        if self.shards != 1:
            raise SettingsError(f"STOCKTIDE_SHARDS is {self.shards}: this version runs one shard")
        if _APP_ID.fullmatch(self.app_id) is None:
            raise SettingsError(f"STOCKTIDE_APP_ID is {self.app_id!r}: 1 to 64 of letters, digits, '.', '_' and '-'")
        if self.worker_role not in WORKER_ROLES:
            raise SettingsError(f"STOCKTIDE_WORKER_ROLE is {self.worker_role!r}: one of {', '.join(WORKER_ROLES)}")
        if self.log_level not in _LOG_LEVELS:
            raise SettingsError(f"STOCKTIDE_LOG_LEVEL is {self.log_level!r}: one of {', '.join(_LOG_LEVELS)}")
        try:
            parse_networks(self.webhook_allow)
        except ValueError as error:
            raise SettingsError(f"STOCKTIDE_WEBHOOK_ALLOW is {self.webhook_allow!r}: {error}") from error
        try:
            self.zone()
        except (ValueError, OSError, KeyError) as error:
            raise SettingsError(
                f"STOCKTIDE_TIMEZONE is {self.timezone!r}: no time zone, as in Asia/Shanghai"
            ) from error
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise SettingsError(f"STOCKTIDE_{name.upper()} is {value}: {_bounds(name)}")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise SettingsError("STOCKTIDE_TLS_CERT and STOCKTIDE_TLS_KEY go together")
        if self.open and not is_loopback(self.host):
            raise SettingsError(
                f"STOCKTIDE_HOST is {self.host!r}: without keys (--open, STOCKTIDE_OPEN) the API serves loopback only"
            )
        self.check_access()

    @property
    def keys_path(self) -> Path:
        """The file of the API's keys."""
        return Path(self.keys_file) if self.keys_file else self.data / "access" / "keys.json"

    def ledger_limits(self) -> LedgerLimits:
        """The limits that a client of the ledger passes to its scripts."""
        return LedgerLimits(
            outbox_max=self.outbox_max,
            park_ms=self.park_seconds * 1000,
            approval_ms=self.approval_seconds * 1000,
            future_ms=self.future_seconds_max * 1000,
        )

    def as_environment(self) -> dict[str, str]:
        """The variables that give a child process the same settings."""
        return {f"{_PREFIX}{spec.name.upper()}": str(getattr(self, spec.name)) for spec in fields(self)}


def is_loopback(host: str) -> bool:
    """Whether a host is reached from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def unread_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """A sentence for each variable `STOCKTIDE_*` that nothing reads and `from_environment` does not refuse."""
    sentences = []
    for name, nearest, likeness in _unknown_variables(os.environ if environ is None else environ):
        if likeness < _MISSPELT:
            hint = f" (the nearest one is {nearest})" if likeness >= _SUGGESTED else ""
            sentences.append(f"{name} is not a setting of Stocktide, so it has no effect{hint}")
    return sentences


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str, float]]:
    """Each unknown variable, the nearest known one, and their likeness."""
    known = tuple(spec.name.upper() for spec in fields(Settings))
    for name in sorted(environ):
        given = name.upper().removeprefix(_PREFIX)
        if not name.upper().startswith(_PREFIX) or name.removeprefix(_PREFIX) in known:
            continue
        if name.startswith(_PREFIX) and any(fnmatchcase(given, pattern) for pattern in READ_ELSEWHERE):
            continue
        names = (*known, *(pattern for pattern in READ_ELSEWHERE if "*" not in pattern))
        likeness, nearest = max((_likeness(given, each), each) for each in names)
        yield name, _PREFIX + nearest, likeness


def _likeness(given: str, known: str) -> float:
    """From 0 to 1. Swapped letters count as the same."""
    return 1.0 if sorted(given) == sorted(known) else SequenceMatcher(None, given, known).ratio()


def _parse(name: str, given: str, kind: type[Any]) -> Any:
    if kind is not int:
        return kind(given)
    try:
        return int(given)
    except ValueError as error:
        raise SettingsError(f"{name} is {given!r}: {_bounds(name.removeprefix(_PREFIX).lower())}") from error


def bounds_of(name: str) -> tuple[int, int] | None:
    """The least and the most of a setting, by its field's name; None where it has no bounds."""
    return _BOUNDS.get(name)


def _bounds(name: str) -> str:
    if name not in _BOUNDS:
        return "it has to be a whole number"
    least, most = _BOUNDS[name]
    return f"it has to be a whole number from {least} to {most}"
