"""The folder of a backup: one file of records for each partition, and a manifest that is written last.

In: records of Kafka. Out: the same records. A folder without a manifest is no backup. A restore first compares each
file with the manifest. A file is gzip of frames: four bytes of length, then msgpack
`[offset, timestamp, key, value, headers]`.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from stocktide.errors import CommandError
from stocktide.streams.owner_only import FOLDER_OWNER_ONLY, OWNER_ONLY

MANIFEST = "manifest.json"
FORMAT = 1
# The fastest level; JSON shrinks to a fifth. Higher levels cost several times the time for little.
_COMPRESSION = 1
_LENGTH_BYTES = 4
# A frame is a record and little more; a longer one is damaged.
_FRAME_BYTES_MAX = 64 * 1024 * 1024
_READ_BYTES = 1024 * 1024


class ArchiveError(CommandError):
    """The folder cannot be written, or is not the backup that its manifest describes."""


class ArchivedRecord(Struct, frozen=True, array_like=True):
    """A record with all its fields. `timestamp` is ms since the epoch."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class PartitionCopy(Struct, frozen=True):
    """The manifest's entry for one file. `topic` is the name without the app id, `first` and `end` are the partition's
    offsets when it was copied. A compacted partition holds fewer records than lie between."""

    topic: str
    partition: int
    file: str
    first: int
    end: int
    records: int
    sha256: str


class CommittedOffset(Struct, frozen=True):
    """The offset that the workers had committed for a partition when the backup began."""

    topic: str
    partition: int
    offset: int


class Manifest(Struct, frozen=True):
    """The content of a backup. Times are RFC 3339."""

    format: int
    stocktide: str
    app_id: str
    partitions: int
    began_at: str
    ended_at: str
    committed: tuple[CommittedOffset, ...]
    copies: tuple[PartitionCopy, ...]


_ENCODER = msgspec.msgpack.Encoder()
_RECORD = msgspec.msgpack.Decoder(ArchivedRecord)


def make_folder(folder: Path) -> None:
    """Make the folder, readable by its owner only. Raises ArchiveError where it cannot be made or is not empty."""
    try:
        folder.mkdir(mode=FOLDER_OWNER_ONLY, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ArchiveError(f"the folder {folder} is not empty: a backup goes into a folder of its own")
    except OSError as error:
        raise ArchiveError(f"the folder {folder} cannot be used: {error.strerror}") from error


class PartitionWriter:
    """Writes one file."""

    def __init__(self, folder: Path, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self._name = f"{topic}-{partition}.gz"
        self._raw: BinaryIO = os.fdopen(
            os.open(folder / self._name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY), "wb"
        )
        # Without name and time in the header: the same records make the same bytes.
        self._gzip = gzip.GzipFile("", "wb", _COMPRESSION, self._raw, mtime=0)
        self._folder = folder
        self.records = 0
        # The offsets of the first and after the last record; None without records.
        self.first: int | None = None
        self.next: int | None = None

    def write(self, records: Sequence[ArchivedRecord]) -> None:
        """Add records, in order. Raises OSError."""
        frames = [_ENCODER.encode(record) for record in records]
        self._gzip.write(b"".join(part for frame in frames for part in (len(frame).to_bytes(_LENGTH_BYTES), frame)))
        self.records += len(records)
        if records:
            self.first = records[0].offset if self.first is None else self.first
            self.next = records[-1].offset + 1

    def copy(self, first: int, end: int) -> PartitionCopy:
        """The manifest's entry for the closed file."""
        digest = digest_of(self._folder / self._name)
        return PartitionCopy(self.topic, self.partition, self._name, first, end, self.records, digest)

    def close(self) -> None:
        """Close the file, synced to the disk. Raises OSError."""
        with self._raw:
            self._gzip.close()
            self._raw.flush()
            os.fsync(self._raw.fileno())


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, which completes the backup. Raises OSError."""
    scratch = folder / f".{MANIFEST}"
    scratch.touch(mode=OWNER_ONLY)
    with scratch.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(folder / MANIFEST)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # keeps the file names after a power failure
    finally:
        os.close(descriptor)


def read_manifest(folder: Path) -> Manifest:
    """The manifest. Raises ArchiveError where there is none or its format is unknown."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError as error:
        raise ArchiveError(
            f"{folder} is no backup: it has no {MANIFEST}; was the backup ended before it was done?"
        ) from error
    except OSError as error:
        raise ArchiveError(f"{folder / MANIFEST} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise ArchiveError(f"{folder / MANIFEST} is no manifest of a backup: {error}") from error
    if manifest.format != FORMAT:
        raise ArchiveError(f"{folder} has format {manifest.format}; this version reads {FORMAT}")
    return manifest


def check_file(folder: Path, copy: PartitionCopy) -> None:
    """Compare a file with its digest, and read all its records. Raises ArchiveError."""
    file = folder / copy.file
    try:
        digest = digest_of(file)
    except OSError as error:
        raise ArchiveError(f"{file} cannot be read: {error.strerror}") from error
    if digest != copy.sha256:
        raise ArchiveError(f"{file} is not what was written: its SHA-256 is {digest}, not {copy.sha256}")
    records = sum(1 for _ in read_records(folder, copy))
    if records != copy.records:
        raise ArchiveError(f"{file} holds {records} records, not {copy.records}")


def digest_of(file: Path) -> str:
    """The SHA-256 of a file, in hex. Raises OSError."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def read_records(folder: Path, copy: PartitionCopy) -> Iterator[ArchivedRecord]:
    """The records of a file, in order. Raises ArchiveError."""
    file = folder / copy.file
    try:
        with gzip.open(file, "rb") as opened:
            while head := opened.read(_LENGTH_BYTES):
                length = int.from_bytes(head)
                if length > _FRAME_BYTES_MAX:
                    raise ArchiveError(f"{file} holds a frame of {length} bytes: it was damaged")
                yield _RECORD.decode(opened.read(length))
    except (OSError, EOFError, msgspec.MsgspecError) as error:
        raise ArchiveError(f"{file} cannot be read: {error}") from error
