"""The file of keys: JSON, for its owner only, replaced as a whole.

In: a path. Out: `KeyFileContent`, read; or written atomically under a lock, so that two commands lose nothing.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from stocktide.api.access.caller import CHANNEL, RIGHTS, ROLES, WAREHOUSE, Caller
from stocktide.streams.owner_only import FOLDER_OWNER_ONLY, OWNER_ONLY, write_owner_only

# A rotation needs the old and the new key; more would be forgotten keys.
LIVE_KEYS_MAX = 2
TICKET_SECRET_BYTES = 32


class KeyRecord(Struct, frozen=True, kw_only=True):
    """A stored key. Times are Unix seconds; `digest` is the SHA-256 of the key's text, hexadecimal."""

    id: str
    role: str
    holder: str
    digest: str
    created_at: int
    expires_at: int | None = None
    channel: str | None = None
    warehouses: tuple[str, ...] | None = None
    all_warehouses: bool = False
    rights: tuple[str, ...] = ()

    def is_live(self, now: float) -> bool:
        """Whether it has not expired."""
        return self.expires_at is None or now < self.expires_at

    def caller(self) -> Caller:
        """Who presents it. The operator has every right."""
        rights = frozenset(RIGHTS) if self.role == "operator" else frozenset(self.rights)
        # A record of a warehouse that names none, and not all of them, may do nothing.
        is_limited = self.role == WAREHOUSE and not self.all_warehouses
        warehouses = (self.warehouses or ()) if is_limited else None
        return Caller(self.id, self.role, self.holder, self.channel, warehouses, rights)


class KeyFileContent(Struct, frozen=True, kw_only=True):
    """All keys, and the secret with which every API process signs and checks tickets, hexadecimal."""

    keys: tuple[KeyRecord, ...] = ()
    ticket_secret: str = ""


_DECODER = msgspec.json.Decoder(KeyFileContent)


def read_key_file(file: Path) -> KeyFileContent:
    """The content; no keys where there is no file. Raises OSError, msgspec.MsgspecError."""
    try:
        return _DECODER.decode(file.read_bytes())
    except FileNotFoundError:
        return KeyFileContent()


def check_record(record: KeyRecord) -> str | None:
    """What is wrong with a key to be added, else None."""
    if record.role not in ROLES:
        return f"the role {record.role!r} is none of {', '.join(ROLES)}"
    if (record.role == CHANNEL) != (record.channel is not None):
        return "a key of the role channel, and no other, names its channel"
    if (record.role == WAREHOUSE) != (bool(record.warehouses) or record.all_warehouses):
        return "a key of the role warehouse, and no other, names its warehouses"
    if record.warehouses and record.all_warehouses:
        return "a key is for all warehouses or for those that it names"
    if unknown := set(record.rights) - set(RIGHTS):
        return f"the right {min(unknown)!r} is none of {', '.join(RIGHTS)}"
    return None


class KeyFile:
    """Changes the file. Every method reads it, and replaces it under a lock."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def add(self, record: KeyRecord, now: float) -> str | None:
        """Add a key; else the reason."""
        if (wrong := check_record(record)) is not None:
            return wrong
        with self._changed() as keys:
            live = [each for each in keys if each.holder == record.holder and each.is_live(now)]
            if len(live) >= LIVE_KEYS_MAX:
                return f"{record.holder} has {LIVE_KEYS_MAX} live keys already: revoke one, or wait until it expires"
            keys.append(record)
        return None

    def rotate(self, key_id: str, new_id: str, digest: str, now: float, overlap_seconds: int) -> KeyRecord | str:
        """Add a key like `key_id`, which expires after `overlap_seconds`; the new record, else the reason."""
        with self._changed() as keys:
            place = next((place for place, each in enumerate(keys) if each.id == key_id), None)
            if place is None:
                return f"there is no key {key_id}"
            old = keys[place]
            live = sum(each.holder == old.holder and each.is_live(now) for each in keys)
            if live >= LIVE_KEYS_MAX and old.is_live(now):
                return f"{old.holder} has {LIVE_KEYS_MAX} live keys already: revoke one, or wait until it expires"
            ends = int(now) + overlap_seconds
            ends = ends if old.expires_at is None else min(ends, old.expires_at)
            lifetime = None if old.expires_at is None else old.expires_at - old.created_at
            added = msgspec.structs.replace(
                old,
                id=new_id,
                digest=digest,
                created_at=int(now),
                expires_at=None if lifetime is None else int(now) + lifetime,
            )
            keys[place] = msgspec.structs.replace(old, expires_at=ends)
            keys.append(added)
            return added

    def revoke(self, key_id: str) -> bool:
        """Remove a key; False where there is none."""
        with self._changed() as keys:
            kept = [each for each in keys if each.id != key_id]
            found = len(kept) < len(keys)
            keys[:] = kept
        return found

    @contextmanager
    def _changed(self) -> Iterator[list[KeyRecord]]:
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=FOLDER_OWNER_ONLY)
        with _locked(self._file):
            content = read_key_file(self._file)
            keys = list(content.keys)
            yield keys
            if tuple(keys) != content.keys:
                secret = content.ticket_secret or secrets.token_hex(TICKET_SECRET_BYTES)
                after = KeyFileContent(keys=tuple(keys), ticket_secret=secret)
                write_owner_only(self._file, msgspec.json.format(msgspec.json.encode(after), indent=1) + b"\n")


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Wait for the lock beside the file, which itself is replaced."""
    descriptor = os.open(file.with_name(f"{file.name}.lock"), os.O_RDWR | os.O_CREAT, OWNER_ONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
