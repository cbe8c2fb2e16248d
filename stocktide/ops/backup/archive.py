"""The folder of a backup: one file of records for each partition, and a manifest that is written last.

In: records as Kafka holds them. Out: the same records. A folder without a manifest is no backup; a file that differs
from what the manifest says of it is told before anything is restored.

A file is gzip of frames: four bytes of length, then msgpack `[offset, timestamp, key, value, headers]`.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec
from msgspec import Struct

from stocktide.errors import CommandError

MANIFEST = "manifest.json"
FORMAT = 1
OWNER_ONLY_FOLDER, OWNER_ONLY = 0o700, 0o600
# Fast, and JSON shrinks to a fifth; more costs several times the time for little.
_COMPRESSION = 1
_LENGTH_BYTES = 4
# A frame is a record and little more; anything longer is no frame of ours.
_FRAME_BYTES_MAX = 64 * 1024 * 1024
_READ_BYTES = 1024 * 1024


class ArchiveError(CommandError):
    """The folder cannot be written, or is not the backup that it says it is."""


class ArchivedRecord(Struct, frozen=True, array_like=True):
    """A record with all that Kafka knows of it. `timestamp` is ms since the epoch."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class PartitionCopy(Struct, frozen=True):
    """What the manifest says of one file. `topic` is the name without the app id; `first` and `end` are the offsets at
    which the partition began and ended when it was copied; a compacted one holds fewer records than lie between."""

    topic: str
    partition: int
    file: str
    first: int
    end: int
    records: int
    sha256: str


class CommittedOffset(Struct, frozen=True):
    """How far the workers had read a partition when the backup began."""

    topic: str
    partition: int
    offset: int


class Manifest(Struct, frozen=True):
    """What a backup holds. Times are RFC 3339."""

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
    """Make the folder, for its owner alone. Raises ArchiveError where it cannot be made, or holds something."""
    try:
        folder.mkdir(mode=OWNER_ONLY_FOLDER, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ArchiveError(f"the folder {folder} is not empty: a backup goes into a folder of its own")
    except OSError as error:
        raise ArchiveError(f"the folder {folder} cannot be used: {error.strerror}") from error


class PartitionWriter:
    """Writes one file; a context, which ends with the file on the disk."""

    def __init__(self, folder: Path, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self._name = f"{topic}-{partition}.gz"
        self._raw: BinaryIO = os.fdopen(
            os.open(folder / self._name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY), "wb"
        )
        # No name and no time in it: the same records make the same bytes.
        self._gzip = gzip.GzipFile("", "wb", _COMPRESSION, self._raw, mtime=0)
        self._folder = folder
        self.records = 0
        # The offsets of the first and after the last record, None before there is one.
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
        """What the manifest says of the file, once it is closed."""
        digest = digest_of(self._folder / self._name)
        return PartitionCopy(self.topic, self.partition, self._name, first, end, self.records, digest)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._raw:
            self._gzip.close()
            self._raw.flush()
            os.fsync(self._raw.fileno())


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make the folder a backup. Raises OSError."""
    scratch = folder / f".{MANIFEST}"
    scratch.touch(mode=OWNER_ONLY)
    with scratch.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(folder / MANIFEST)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # else a power cut may forget the names
    finally:
        os.close(descriptor)


def read_manifest(folder: Path) -> Manifest:
    """The manifest. Raises ArchiveError where there is none, or one of another format."""
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
    """Compare a file with its digest, and read it through. Raises ArchiveError."""
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
    """Its SHA-256, as `sha256sum` prints it. Raises OSError."""
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
