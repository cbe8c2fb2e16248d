"""The first keys of a data folder, which `stocktide up` makes.

In: the data folder and the file of keys. Out: the keys by role, also after a restart. The file of keys has digests
only, so the texts are in a file of their own, for its owner only, which may be deleted once they are stored elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from stocktide.api.access.caller import APPROVER, CHANNEL, METRICS, OPERATOR, VIEWER, WAREHOUSE
from stocktide.api.access.key_file import KeyFile, KeyRecord, read_key_file
from stocktide.api.access.keys import id_of, make_key
from stocktide.errors import CommandError
from stocktide.streams.contract.times import now_ms
from stocktide.streams.owner_only import FOLDER_OWNER_ONLY, write_owner_only

FIRST_KEYS_FILE = Path("access") / "first-keys.json"
FIRST_CHANNEL = "own"
ENV = "local"


def make_first_keys(data: Path, keys_file: Path) -> dict[str, str]:
    """The first keys by role; those that were revoked are left out. Empty where there are other keys, and where the
    texts were deleted. Raises CommandError."""
    file = data / FIRST_KEYS_FILE
    try:
        known = {record.id for record in read_key_file(keys_file).keys if record.is_live(now_ms() / 1000)}
        if file.exists():
            return {role: text for role, text in read_first_keys(data).items() if id_of(text) in known}
        if keys_file.exists():
            return {}
        return _make(file, keys_file)
    except (OSError, msgspec.MsgspecError) as error:
        raise CommandError(f"the keys of {data} cannot be read or written: {error}") from error


def read_first_keys(data: Path) -> dict[str, str]:
    """The texts as they were made; empty where there is no file. Raises CommandError."""
    file = data / FIRST_KEYS_FILE
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        raise CommandError(f"{file} cannot be read: {error}") from error


def _make(file: Path, keys_file: Path) -> dict[str, str]:
    now = now_ms() / 1000
    texts: dict[str, str] = {}
    records = []
    for role in (OPERATOR, CHANNEL, WAREHOUSE, VIEWER, METRICS, APPROVER):
        key = make_key(ENV)
        texts[role] = key.text
        records.append(
            KeyRecord(
                id=key.id,
                role=role,
                holder=FIRST_CHANNEL if role == CHANNEL else role,
                digest=key.digest,
                created_at=int(now),
                channel=FIRST_CHANNEL if role == CHANNEL else None,
                all_warehouses=role == WAREHOUSE,
            )
        )
    file.parent.mkdir(parents=True, exist_ok=True, mode=FOLDER_OWNER_ONLY)
    write_owner_only(file, msgspec.json.format(msgspec.json.encode(texts), indent=1) + b"\n")
    keys = KeyFile(keys_file)
    for record in records:
        if (wrong := keys.add(record, now)) is not None:
            raise CommandError(f"the first keys cannot be made: {wrong}")
    return texts
