"""The settings: one frozen object, read once from the environment (`STOCKTIDE_*`).

How Kafka and Redis are reached and what lets us in is `ServerAccess`, in `security`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from stocktide.errors import SettingsError as SettingsError
from stocktide.security import ServerAccess
from stocktide.setting_names import check_variable_names, unknown_variable_warnings

# It becomes a part of Kafka's topic names, which allow these and 249 in all.
_APP_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
# The most of each is what still makes sense: beyond it there is a mistake, in the unit for example.
_BOUNDS: dict[str, tuple[int, int]] = {
    "port": (0, 65_535),
    "worker_port": (0, 65_535),
    "partitions": (1, 256),
    "replication": (0, 9),
    "publish_interval_ms": (0, 60_000),
    "tick_ms": (10, 60_000),
    "park_seconds": (1, 604_800),
    # Late counts read the movements of an hour ahead, and no more (tables/ledger/lua/includes/history.lua).
    "future_seconds_max": (0, 3_600),
    "request_seconds": (1, 300),
    "outbox_max": (1, 1_000_000),
    "restate_seconds": (1, 86_400),
    "audit_interval": (0, 604_800),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ServerAccess):
    """Every setting with its default. The environment name is `STOCKTIDE_` and the field in capitals."""

    app_id: str = field(default="stocktide", metadata={"help": "prefix of topics, keys and consumer groups"})
    shards: int = field(default=1, metadata={"help": "this version runs one"})
    data: Path = field(default=Path("data"), metadata={"help": "folder of tables and embedded servers"})
    host: str = field(default="127.0.0.1", metadata={"help": "address the API binds to; without keys, loopback"})
    port: int = field(default=8080, metadata={"help": "port of the API; 0 picks a free one"})
    worker_port: int = field(default=0, metadata={"help": "port of the worker's /metrics and /readyz; 0 picks"})
    worker_name: str = field(default="worker", metadata={"help": "names the worker's folder below data"})
    partitions: int = field(default=4, metadata={"help": "partitions of topics that are not fixed to one"})
    replication: int = field(default=0, metadata={"help": "replicas of a topic; 0: 3 where there are 3 brokers"})
    publish_interval_ms: int = field(default=100, metadata={"help": "default of the policy field of that name"})
    tick_ms: int = field(default=200, metadata={"help": "how often the expiry step looks for what is due"})
    park_seconds: int = field(default=86_400, metadata={"help": "how long an early event waits for what it needs"})
    future_seconds_max: int = field(default=600, metadata={"help": "how far ahead of our clock an event may be dated"})
    request_seconds: int = field(default=5, metadata={"help": "deadline of an API request"})
    outbox_max: int = field(default=2_000, metadata={"help": "batches in the outbox before `busy`"})
    restate_seconds: int = field(
        default=43_200, metadata={"help": "how often every SKU and open order is written to the journal anew"}
    )
    audit_interval: int = field(
        default=21_600, metadata={"help": "seconds between audits by the worker that owns the shard; 0: none"}
    )
    log_level: str = field(default="INFO", metadata={"help": "DEBUG, INFO, WARNING or ERROR"})

    @staticmethod
    def from_environment(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Read the environment; `overrides` that are not None win. SettingsError names the variable."""
        environ = os.environ if environ is None else environ
        check_variable_names(environ, setting_names())
        values: dict[str, Any] = {}
        for spec in fields(Settings):
            name = f"STOCKTIDE_{spec.name.upper()}"
            if (given := environ.get(name)) is not None:
                values[spec.name] = _parse(name, given, type(spec.default))
        values.update({name: value for name, value in overrides.items() if value is not None})
        settings = Settings(**values)
        settings.check()
        return settings

    def check(self) -> None:
        """Refuse what cannot work. Raises SettingsError."""
        if self.shards != 1:
            raise SettingsError(f"STOCKTIDE_SHARDS is {self.shards}: this version runs one shard")
        if _APP_ID.fullmatch(self.app_id) is None:
            raise SettingsError(f"STOCKTIDE_APP_ID is {self.app_id!r}: 1 to 64 of letters, digits, '.', '_' and '-'")
        if self.log_level not in _LOG_LEVELS:
            raise SettingsError(f"STOCKTIDE_LOG_LEVEL is {self.log_level!r}: one of {', '.join(_LOG_LEVELS)}")
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise SettingsError(f"STOCKTIDE_{name.upper()} is {value}: {_whole_number(name)}")
        self.check_access()

    def as_environment(self) -> dict[str, str]:
        """The variables that make a child process read the same settings."""
        return {f"STOCKTIDE_{spec.name.upper()}": str(getattr(self, spec.name)) for spec in fields(self)}


def setting_names() -> tuple[str, ...]:
    """The names of all settings as the environment has them, without `STOCKTIDE_`."""
    return tuple(spec.name.upper() for spec in fields(Settings))


def unread_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """A sentence for each `STOCKTIDE_*` of the environment that nothing reads."""
    return list(unknown_variable_warnings(os.environ if environ is None else environ, setting_names()))


def _parse(name: str, given: str, kind: type[Any]) -> Any:
    if kind is not int:
        return kind(given)
    try:
        return int(given)
    except ValueError as error:
        setting = name.removeprefix("STOCKTIDE_").lower()
        raise SettingsError(f"{name} is {given!r}: {_whole_number(setting)}") from error


def _whole_number(name: str) -> str:
    if name not in _BOUNDS:
        return "it has to be a whole number"
    least, most = _BOUNDS[name]
    return f"it has to be a whole number from {least} to {most}"
