"""The keys that an API process knows: read from the file, re-read when it changes, looked up without a disk access.

In: the file of keys. Out: the `Caller` of a presented key, or None after the same work; callbacks when a key of an open
feed ends; a file beside with the hour of each key's last use.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from stocktide.api.access.caller import Caller
from stocktide.api.access.key_file import KeyFileContent, KeyRecord, read_key_file
from stocktide.api.access.keys import digest_of, id_of
from stocktide.streams.owner_only import write_owner_only

log = logging.getLogger(__name__)

# A revoked key ends within this: one `stat` each time.
RELOAD_SECONDS = 1.0
# The last use is written this often, where it has changed.
LAST_USE_SECONDS = 60.0
# The last use is known to the hour: a busy key changes the file once an hour.
LAST_USE_GRAIN_SECONDS = 3_600
LAST_USE_FILE = "last-use.json"
# What an unknown key is compared with. No key has it.
_NO_DIGEST = bytes(32)

_LAST_USE = msgspec.json.Decoder(dict[str, int])
Compare = Callable[[bytes, bytes], bool]


class _Known(Struct, frozen=True):
    record: KeyRecord
    digest: bytes
    caller: Caller


class KeyRing:
    """The keys of one file. `compare` compares digests in constant time."""

    def __init__(
        self, file: Path, clock: Callable[[], float] = time.time, compare: Compare = hmac.compare_digest
    ) -> None:
        self._file = file
        self._clock = clock
        self._compare = compare
        self._known: dict[str, _Known] = {}
        self._ticket_secret = b""
        self._seen: tuple[int, int, int] | None = None
        self._used: dict[str, int] = {}
        self._written: dict[str, int] = {}
        self._on_end: dict[Caller, set[Callable[[], None]]] = defaultdict(set)

    @property
    def ticket_secret(self) -> bytes:
        """The secret of all API processes with this file; empty before the first key."""
        return self._ticket_secret

    def __len__(self) -> int:
        return len(self._known)

    def records(self) -> list[KeyRecord]:
        """Every key that is known."""
        return [known.record for known in self._known.values()]

    def authenticate(self, text: str) -> Caller | None:
        """The caller that presents a key; None where it is unknown, wrong or expired, after the same work."""
        digest = digest_of(text)
        known = self._known.get(id_of(text) or "")
        is_same = self._compare(digest, _NO_DIGEST if known is None else known.digest)
        now = self._clock()
        if known is None or not is_same or not known.record.is_live(now):
            return None
        self._used[known.record.id] = int(now) // LAST_USE_GRAIN_SECONDS
        return known.caller

    def holder_of(self, key_id: str) -> Caller | None:
        """The caller of a live key by its id, for tickets."""
        known = self._known.get(key_id)
        return known.caller if known is not None and known.record.is_live(self._clock()) else None

    def is_valid(self, caller: Caller) -> bool:
        """Whether the key is still live and has the same rights."""
        return self.holder_of(caller.key_id) == caller

    @contextmanager
    def watched(self, caller: Caller, on_end: Callable[[], None]) -> Iterator[None]:
        """Call `on_end` once if the key ends within the body: it was revoked, changed, or has expired."""
        self._on_end[caller].add(on_end)
        try:
            yield
        finally:
            watchers = self._on_end.get(caller, set())
            watchers.discard(on_end)
            if not watchers:
                self._on_end.pop(caller, None)

    def load(self) -> bool:
        """Read the file if it has changed; whether it was read. Raises OSError, msgspec.MsgspecError."""
        seen = _signature(self._file)
        if seen == self._seen:
            return False
        self._take(read_key_file(self._file))
        self._seen = seen
        return True

    async def watch(self) -> None:
        """Re-read the file when it changes, end what expired, and write the last uses, until cancelled."""
        loop, trouble = asyncio.get_running_loop(), ""
        written_at = loop.time()
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            try:
                await asyncio.to_thread(self.load)
                trouble = ""
            except (OSError, msgspec.MsgspecError) as error:
                # The keys that are known stay: a file that is being repaired locks no one out.
                if str(error) != trouble:
                    log.error("the file of keys cannot be read, the known keys stay: %s", error)
                trouble = str(error)
            self.end_invalid()
            if loop.time() >= written_at + LAST_USE_SECONDS:
                written_at = loop.time()
                await asyncio.to_thread(self.write_last_use)

    def end_invalid(self) -> None:
        """Call the watchers of keys that have ended."""
        for caller in [each for each in self._on_end if not self.is_valid(each)]:
            for on_end in self._on_end.pop(caller):
                on_end()

    def write_last_use(self) -> None:
        """Write the hours of the last uses, where they have changed; those of other processes stay."""
        used = dict(self._used)
        if used == self._written:
            return
        file = self._file.with_name(LAST_USE_FILE)
        with contextlib.suppress(OSError):  # it is for people, and nothing depends on it
            merged = read_last_use(file)
            for key_id, hour in used.items():
                merged[key_id] = max(hour * LAST_USE_GRAIN_SECONDS, merged.get(key_id, 0))
            write_owner_only(file, msgspec.json.encode(merged))
            self._written = used

    def _take(self, content: KeyFileContent) -> None:
        # Replaced at once: requests are answered while this runs in a thread.
        self._known = {
            record.id: _Known(record, bytes.fromhex(record.digest), record.caller()) for record in content.keys
        }
        self._ticket_secret = bytes.fromhex(content.ticket_secret)


def read_last_use(file: Path) -> dict[str, int]:
    """Unix seconds of each key's last use, to the hour; empty where there is no readable file."""
    try:
        return _LAST_USE.decode(file.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return {}


def _signature(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_ino, found.st_size)
