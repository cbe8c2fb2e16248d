"""`stocktide keys`: adds, lists, rotates and revokes the API's keys; the running API notices within a second.

In: options and the file of keys. Out: a key, printed once; or a table.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from stocktide.discovery import SystemSelector, locate
from stocktide.errors import CommandError
from stocktide.settings import Settings
from stocktide.streams.contract.times import now_ms

_DURATION = re.compile(r"([0-9]{1,6})([smhd])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
# The time to replace a key wherever it is used.
OVERLAP_DEFAULT = "24h"
_ROLES = ("channel", "warehouse", "operator", "approver", "viewer", "metrics")
_RIGHTS = ("priority_vip", "force", "purpose", "sold")
_NONE = "-"
_ALL = "all warehouses"


class _Duration(click.ParamType):
    """Seconds, from `30s`, `15m`, `24h` or `90d`."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Refuse what is no duration."""
        if isinstance(value, int):
            return value
        if (found := _DURATION.fullmatch(value)) is None:
            self.fail(f"{value!r} is no duration, as in 15m, 24h or 90d", param, ctx)
        return int(found[1]) * _UNIT_SECONDS[found[2]]


_DATA = click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="The data folder. [STOCKTIDE_DATA, else that of the running system, else ./data]",
)


def _for_keys(callback: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(callback)
    def command(data: Path | None, file: Path | None, **given: Any) -> None:
        path = _path(data, file)
        try:
            callback(path=path, **given)
        except OSError as error:
            raise CommandError(
                f"the file of keys {path} cannot be used: {error.strerror} ({error.filename})"
            ) from error
        except msgspec.MsgspecError as error:
            raise CommandError(f"the file of keys {path} cannot be used: {error}") from error

    options = (
        _DATA,
        click.option("--file", type=click.Path(path_type=Path), help="The file of keys. [STOCKTIDE_KEYS_FILE]"),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _settings(data: Path | None) -> Settings:
    """The settings with the data folder that is meant. Raises CommandError where several systems run."""
    settings = Settings.from_environment(data=data)
    is_given = data is not None or "STOCKTIDE_DATA" in os.environ
    return settings if is_given else locate(settings, SystemSelector()).settings


def _path(data: Path | None, file: Path | None) -> Path:
    return file or _settings(data).keys_path


def keys_group() -> click.Group:
    """The commands of keys."""
    group = click.Group("keys", help="The keys of the API.", short_help="Add, list, rotate and revoke keys.")
    for command in (first_command, add_command, list_command, rotate_command, revoke_command):
        group.add_command(command)
    return group


@click.command("first", short_help="Print a key of the first set.")
@click.argument("role", type=click.Choice(_ROLES))
@_DATA
def first_command(role: str, data: Path | None) -> None:
    """Print the key of ROLE that `stocktide up` made for its data folder."""
    from stocktide.up.first_keys import FIRST_KEYS_FILE, read_first_keys

    folder = _settings(data).data
    key = read_first_keys(folder).get(role)
    if key is None:
        raise CommandError(f"{folder / FIRST_KEYS_FILE} has no key of the role {role}; `stocktide up` writes it")
    click.echo(key)


@click.command("add", short_help="Make a key, and print it once.")
@click.argument("role", type=click.Choice(_ROLES))
@click.option("--holder", required=True, metavar="NAME", help="Who has it; two-person approval compares these.")
@click.option("--channel", metavar="NAME", help="Of a key of the role channel.")
@click.option(
    "--warehouse", "warehouses", multiple=True, metavar="NAME", help="Of the role warehouse; may be repeated."
)
@click.option("--all-warehouses", is_flag=True, help="Of the role warehouse: it may name every one.")
@click.option("--right", "rights", multiple=True, type=click.Choice(_RIGHTS), help="May be repeated.")
@click.option("--expires-in", type=_Duration(), help="15m, 24h, 90d. [never]")
@click.option("--env", default="live", metavar="NAME", help="The second part of the key. [live]")
@_for_keys
def add_command(path: Path, role: str, holder: str, env: str, expires_in: int | None, **options: Any) -> None:
    """Make a key of ROLE and print it. It is shown this once: only its digest is stored."""
    from stocktide.api.access.key_file import KeyFile, KeyRecord
    from stocktide.api.access.keys import make_key

    if not 0 < len(holder) <= 128 or not holder.isprintable() or " " in holder:
        raise click.BadParameter("1 to 128 printable characters without white space", param_hint="--holder")
    try:
        key = make_key(env)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--env") from error
    now = now_ms() / 1000
    record = KeyRecord(
        id=key.id,
        role=role,
        holder=holder,
        digest=key.digest,
        created_at=int(now),
        expires_at=None if expires_in is None else int(now) + expires_in,
        channel=options["channel"],
        warehouses=options["warehouses"] or None,
        all_warehouses=options["all_warehouses"],
        rights=options["rights"],
    )
    if (wrong := KeyFile(path).add(record, now)) is not None:
        raise CommandError(wrong)
    click.echo(key.text)


@click.command("list", short_help="List the keys, without what is secret.")
@_for_keys
def list_command(path: Path) -> None:
    """List the keys: id, role, holder, scope, rights, expiry and the hour of the last use."""
    from stocktide.api.access.key_file import KeyRecord, read_key_file
    from stocktide.api.access.key_ring import LAST_USE_FILE, read_last_use

    now = now_ms() / 1000
    used = read_last_use(path.with_name(LAST_USE_FILE))

    def row(record: KeyRecord) -> tuple[str, ...]:
        scope = record.channel or ",".join(record.warehouses or ()) or (_ALL if record.all_warehouses else _NONE)
        rights = ",".join(record.rights) or _NONE
        ends = _time(record.expires_at) + ("" if record.is_live(now) else " (expired)")
        return record.id, record.role, record.holder, scope, rights, ends, _time(used.get(record.id))

    heads = ("id", "role", "holder", "scope", "rights", "expires", "last used")
    rows: list[tuple[str, ...]] = [heads, *map(row, read_key_file(path).keys)]
    widths = [max(len(cells[place]) for cells in rows) for place in range(len(rows[0]))]
    for cells in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


@click.command("rotate", short_help="Make a key that follows another one.")
@click.argument("key_id")
@click.option("--overlap", type=_Duration(), default=OVERLAP_DEFAULT, help=f"The old one stays. [{OVERLAP_DEFAULT}]")
@click.option("--env", default="live", metavar="NAME", help="The second part of the key. [live]")
@_for_keys
def rotate_command(path: Path, key_id: str, overlap: int, env: str) -> None:
    """Make a key with the rights of KEY_ID, and print it; KEY_ID expires after the overlap."""
    from stocktide.api.access.key_file import KeyFile
    from stocktide.api.access.keys import make_key

    try:
        key = make_key(env)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--env") from error
    added = KeyFile(path).rotate(key_id, key.id, key.digest, now_ms() / 1000, overlap)
    if isinstance(added, str):
        raise CommandError(added)
    click.echo(key.text)


@click.command("revoke", short_help="End a key at once.")
@click.argument("key_id")
@_for_keys
def revoke_command(path: Path, key_id: str) -> None:
    """End a key: the API refuses it, and ends its open feeds, within seconds."""
    from stocktide.api.access.key_file import KeyFile

    if not KeyFile(path).revoke(key_id):
        raise CommandError(f"there is no key {key_id}")


def _time(seconds: int | None) -> str:
    return _NONE if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
