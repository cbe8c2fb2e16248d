"""The file of alerts: receivers, routes, quiet times.

In: a YAML file, and the environment for secrets. Out: an `AlertsConfig`, or an `AlertsFileError` with the path of what
is wrong. No error, log or `repr` shows a URL or a secret: the URL of a robot is one.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct

from stocktide.errors import CommandError
from stocktide.streams.contract.alert_types import ALERT_TYPES, Language, Severity
from stocktide.streams.webhooks.addresses import Network, url_trouble
from stocktide.streams.yaml_file import read_yaml

# Each receiver is a consumer of its own in every worker.
RECEIVERS_MAX = 20
# Every alert is compared with every route.
ROUTES_MAX = 100
QUIET_TIMES_MAX = 20
# Values of one condition of a route.
VALUES_MAX = 1_000
# A secret of 24 to 64 bytes, as Standard Webhooks has it.
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64
SECONDS_MAX = 7 * 86_400
# A URL or a secret in a file of its own.
TEXT_LENGTH_MAX = 4_096

Kind = Literal["dingtalk", "wecom", "feishu", "slack", "webhook"]
Label = Literal["type", "severity", "channel", "sku", "warehouse"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# The kinds whose URL is all of the secret.
_WITHOUT_SECRET = ("wecom", "slack")
_SECONDS = re.compile(r"(\d{1,6})(ms|s|m|h|d)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_URL = re.compile(r"[a-z]+:/+[^\s/'\"`][^\s'\"`]*", re.IGNORECASE)
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Values = Annotated[tuple[str, ...], Meta(max_length=VALUES_MAX)]


class AlertsFileError(CommandError):
    """The file of alerts cannot be used."""

    exit_status = 2

    def __init__(self, sentence: str) -> None:
        # A value at a wrong place is repeated, and the URL of a robot is a secret.
        super().__init__(_URL.sub("(a URL)", sentence))


class _Part(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the file: an unknown field is an error."""


class ReceiverEntry(_Part, frozen=True):
    """A receiver as it is written: its URL and its secret are given, or are in a file or a variable."""

    name: Name
    kind: Kind
    url: str | None = None
    url_file: str | None = None
    url_variable: str | None = None
    secret_file: str | None = None
    secret_variable: str | None = None
    language: Language | None = None

    def __repr__(self) -> str:
        """Without the URL."""
        return f"ReceiverEntry({self.name!r}, {self.kind})"


class Match(_Part, frozen=True):
    """Conditions, all of which hold; one that is left out holds always."""

    types: Values | None = None
    severities: tuple[Severity, ...] | None = None
    channels: Values | None = None
    sku_prefixes: Values | None = None
    warehouses: Values | None = None


class RouteEntry(_Part, frozen=True, rename={"goes_on": "continue"}):
    """A route as it is written."""

    receiver: str
    match: Match = Match()
    goes_on: bool = False
    group_by: tuple[Label, ...] = ("type", "channel")
    group_wait: str = "30s"
    group_interval: str = "5m"
    repeat_interval: str = "4h"
    quiet: tuple[str, ...] = ()


class QuietEntry(_Part, frozen=True, rename={"from_": "from"}):
    """A quiet time as it is written; one that ends before it begins ends on the next day."""

    name: Name
    from_: str | int
    to: str | int
    days: tuple[Day, ...] = DAYS
    zone: str | None = None
    passes: tuple[Severity, ...] = ("critical",)


class _File(_Part, frozen=True):
    receivers: Annotated[tuple[ReceiverEntry, ...], Meta(max_length=RECEIVERS_MAX)]
    routes: Annotated[tuple[RouteEntry, ...], Meta(max_length=ROUTES_MAX)]
    quiet_times: Annotated[tuple[QuietEntry, ...], Meta(max_length=QUIET_TIMES_MAX)] = ()
    language: Language = "en"
    zone: str = "UTC"


class Receiver(Struct, frozen=True):
    """A receiver that can be called."""

    name: str
    kind: Kind
    url: str
    secret: str
    language: Language
    zone: ZoneInfo

    def __repr__(self) -> str:
        """Without the URL and the secret."""
        return f"Receiver({self.name!r}, {self.kind})"


class QuietTime(Struct, frozen=True):
    """A quiet time: minutes of the day, and the days (0 is Monday) on which it begins."""

    name: str
    days: frozenset[int]
    begins: int
    ends: int
    zone: ZoneInfo
    passes: frozenset[str]


class Route(Struct, frozen=True):
    """A route; times are seconds."""

    receiver: str
    match: Match
    goes_on: bool
    group_by: tuple[Label, ...]
    group_wait: float
    group_interval: float
    repeat_interval: float
    quiet: tuple[QuietTime, ...]


class AlertsConfig(Struct, frozen=True):
    """The whole file, checked."""

    receivers: tuple[Receiver, ...]
    routes: tuple[Route, ...]
    quiet_times: tuple[QuietTime, ...]
    # The files beside this one that hold URLs and secrets.
    secret_files: tuple[Path, ...] = ()

    def receiver(self, name: str) -> Receiver | None:
        """The receiver of this name."""
        return next((each for each in self.receivers if each.name == name), None)


def read_alerts_file(path: Path, environ: Mapping[str, str], allowed: Iterable[Network]) -> AlertsConfig:
    """Read and check the file. `allowed`: blocks that may be called although private. Raises AlertsFileError."""
    try:
        return _Checker(read_yaml(path, _File), path.parent, environ, tuple(allowed)).checked()
    except (OSError, ValueError) as error:
        raise AlertsFileError(f"{path}: {_sentence(error)}") from None


class _Wrong(ValueError):
    """What is wrong at a place of the file."""

    def __init__(self, place: str, what: str) -> None:
        super().__init__(f"{place}: {what}")


def _sentence(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


class _Checker:
    """Checks what types cannot express."""

    def __init__(self, file: _File, folder: Path, environ: Mapping[str, str], allowed: tuple[Network, ...]) -> None:
        self._file = file
        self._folder = folder
        self._environ = environ
        self._allowed = allowed

    def checked(self) -> AlertsConfig:
        """The configuration. Raises _Wrong."""
        file = self._file
        zone = _zone("zone", file.zone)
        _check_unique("receivers", [each.name for each in file.receivers])
        _check_unique("quiet_times", [each.name for each in file.quiet_times])
        receivers = [self._receiver(f"receivers[{at}]", each, zone) for at, each in enumerate(file.receivers)]
        quiet = {each.name: _quiet(f"quiet_times[{at}]", each, zone) for at, each in enumerate(file.quiet_times)}
        names = {each.name for each in receivers}
        routes = [_route(f"routes[{at}]", each, names, quiet) for at, each in enumerate(file.routes)]
        named = [each for entry in file.receivers for each in (entry.url_file, entry.secret_file) if each is not None]
        files = tuple(self._folder / each for each in dict.fromkeys(named))
        return AlertsConfig(tuple(receivers), tuple(routes), tuple(quiet.values()), files)

    def _receiver(self, place: str, entry: ReceiverEntry, zone: ZoneInfo) -> Receiver:
        url = self._text(place, "url", entry.url, entry.url_file, entry.url_variable)
        if url is None:
            raise _Wrong(place, "it has no `url`, `url_file` or `url_variable`")
        if (trouble := url_trouble(url, self._allowed)) is not None:
            raise _Wrong(f"{place}.{_given_field('url', entry.url_file, entry.url_variable)}", trouble)
        secret = self._text(place, "secret", None, entry.secret_file, entry.secret_variable)
        _check_secret(place, _given_field("secret", entry.secret_file, entry.secret_variable), entry.kind, secret)
        return Receiver(entry.name, entry.kind, url, secret or "", entry.language or self._file.language, zone)

    def _text(self, place: str, field: str, given: str | None, file: str | None, variable: str | None) -> str | None:
        """What is given in the one way that is used."""
        ways = [each for each in (given, file, variable) if each is not None]
        if len(ways) > 1:
            raise _Wrong(f"{place}.{field}", "it is given in more than one way")
        if file is not None:
            try:
                given = (self._folder / file).read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise _Wrong(f"{place}.{field}_file", f"{file} cannot be read: {_sentence(error)}") from None
            if len(given) > TEXT_LENGTH_MAX:
                raise _Wrong(f"{place}.{field}_file", f"{file} has more than {TEXT_LENGTH_MAX} characters")
            if not given:
                raise _Wrong(f"{place}.{field}_file", f"{file} is empty")
        if variable is not None and not (given := self._environ.get(variable, "").strip()):
            raise _Wrong(f"{place}.{field}_variable", f"{variable} is not set")
        return given


def _given_field(field: str, file: str | None, variable: str | None) -> str:
    """The field of the file that gives a URL or a secret."""
    return f"{field}_file" if file is not None else f"{field}_variable" if variable is not None else field


def _check_secret(place: str, field: str, kind: Kind, secret: str | None) -> None:
    if secret is not None and kind in _WITHOUT_SECRET:
        raise _Wrong(f"{place}.{field}", f"a robot of {kind} has none: its URL is the secret")
    if kind != "webhook":
        return
    if secret is None:
        raise _Wrong(place, "a webhook needs `secret_file` or `secret_variable`: its calls are signed")
    try:
        length = len(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
    except binascii.Error:
        length = 0
    if not secret.startswith("whsec_") or not SECRET_BYTES_MIN <= length <= SECRET_BYTES_MAX:
        raise _Wrong(
            f"{place}.{field}", f"it has to be `whsec_` and {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes as base64"
        )


def _route(place: str, entry: RouteEntry, receivers: set[str], quiet: Mapping[str, QuietTime]) -> Route:
    if entry.receiver not in receivers:
        raise _Wrong(f"{place}.receiver", f"there is no receiver {entry.receiver!r}")
    for at, name in enumerate(entry.match.types or ()):
        if name not in ALERT_TYPES:
            raise _Wrong(f"{place}.match.types[{at}]", f"there is no type {name!r}; docs/alerts.md has them all")
    for at, name in enumerate(entry.quiet):
        if name not in quiet:
            raise _Wrong(f"{place}.quiet[{at}]", f"there is no quiet time {name!r}")
    return Route(
        receiver=entry.receiver,
        match=entry.match,
        goes_on=entry.goes_on,
        group_by=entry.group_by,
        group_wait=_seconds(f"{place}.group_wait", entry.group_wait),
        group_interval=_seconds(f"{place}.group_interval", entry.group_interval),
        repeat_interval=_seconds(f"{place}.repeat_interval", entry.repeat_interval),
        quiet=tuple(quiet[name] for name in entry.quiet),
    )


def _quiet(place: str, entry: QuietEntry, zone: ZoneInfo) -> QuietTime:
    begins, ends = _minutes(f"{place}.from", entry.from_), _minutes(f"{place}.to", entry.to)
    if begins == ends:
        raise _Wrong(place, "it begins when it ends; a whole day is from 00:00 to 24:00")
    if not entry.days:
        raise _Wrong(f"{place}.days", "it has no day")
    days = frozenset(DAYS.index(day) for day in entry.days)
    own = zone if entry.zone is None else _zone(f"{place}.zone", entry.zone)
    return QuietTime(entry.name, days, begins, ends, own, frozenset(entry.passes))


def _zone(place: str, name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (LookupError, OSError, ValueError):
        raise _Wrong(place, f"{name!r} is no time zone") from None


def _seconds(place: str, text: str) -> float:
    found = _SECONDS.fullmatch(text.strip())
    if found is None:
        raise _Wrong(place, f"{text!r} is no duration such as 30s, 5m, 4h or 1d")
    seconds = int(found[1]) * _UNITS[found[2] or "s"]
    if seconds > SECONDS_MAX:
        raise _Wrong(place, f"{text} is more than 7 days, for which alerts are kept")
    return seconds


def _minutes(place: str, text: str | int) -> int:
    if isinstance(text, int) and 60 <= text <= 24 * 60:
        return text  # YAML reads 22:00 without quotes as minutes
    text = str(text)
    if _CLOCK.fullmatch(text) is None:
        raise _Wrong(place, f"{text!r} is no time of day such as 22:00")
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)


def _check_unique(place: str, names: list[str]) -> None:
    for at, name in enumerate(names):
        if name in names[:at]:
            raise _Wrong(f"{place}[{at}].name", f"{name!r} is taken")
