"""A run as a file: what was measured, then the history, so that it can be judged again.

In: a `RecordedRun` and its history. Out: gzipped NDJSON, and both again. Every error names the file.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from stocktide.errors import StocktideError
from stocktide.loadtest.measure.meter import Measurements
from stocktide.loadtest.measure.results import FORMAT, HotSku, ProcessUsage
from stocktide.loadtest.oracle.history import RECORDS_PER_WRITE, HistoryRecord, decode_lines

# Unpacked: some hours at the default rate.
RUN_BYTES_MAX = 8 * 1024**3
# One line has the measurements of all processes: histograms of each second.
LINE_BYTES_MAX = 256 * 1024**2
MAGIC = b"\x1f\x8b"
# A higher level takes as long as the judging.
_COMPRESSION = 1
_ENCODER = msgspec.json.Encoder()


class RunFileError(StocktideError):
    """A file cannot be written, or is not what it should be; the message names the file and says why."""


class RecordedRun(Struct, frozen=True):
    """All of a run but its history. `unquiet`: why the system did not become quiet; empty where it did.

    The other fields are those of `LoadTestResults`; `parts` has the measurements of each process.
    """

    settings: dict[str, Any]
    machine: dict[str, Any]
    started_at: str
    load_seconds: float
    parts: tuple[Measurements, ...]
    unquiet: str = ""
    notes: tuple[str, ...] = ()
    hot: tuple[HotSku, ...] = ()
    processes: tuple[ProcessUsage, ...] = ()
    ladder: tuple[dict[str, Any], ...] = ()
    format: int = FORMAT


class RunArchive:
    """A run in a file. It is read from the start at each call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, run: RecordedRun, history: Iterable[HistoryRecord]) -> None:
        """Write the whole run, or nothing. Raises RunFileError."""
        part = self.path.with_name(f"{self.path.name}.part")
        size, block = 0, list[RecordedRun | HistoryRecord]([run])
        try:
            with gzip.open(part, "wb", _COMPRESSION) as file:
                for record in history:
                    block.append(record)
                    if len(block) >= RECORDS_PER_WRITE:
                        size += file.write(_ENCODER.encode_lines(block))
                        block.clear()
                    if size > RUN_BYTES_MAX:
                        raise RunFileError(f"{self.path} is not written: the run has more than {RUN_BYTES_MAX:,} bytes")
                file.write(_ENCODER.encode_lines(block))
            part.replace(self.path)
        except OSError as error:
            raise RunFileError(f"{self.path} cannot be written: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)

    def run(self) -> RecordedRun:
        """The run. Raises RunFileError."""
        try:
            run = msgspec.json.decode(next(self._lines(), b""), type=RecordedRun)
        except msgspec.DecodeError as error:
            raise RunFileError(f"{self.path} is no run of a load test: {error}") from error
        if run.format != FORMAT:
            raise RunFileError(f"{self.path} has format {run.format}, and this program reads format {FORMAT}")
        return run

    def history(self) -> Iterator[HistoryRecord]:
        """The history. Raises RunFileError."""
        lines = self._lines()
        next(lines)
        for number, line in enumerate(lines, 2):
            try:
                yield from decode_lines(line)
            except msgspec.DecodeError as error:
                raise RunFileError(f"{self.path}: line {number} is no record of a history: {error}") from error

    def _lines(self) -> Iterator[bytes]:
        size = 0
        try:
            with gzip.open(self.path) as file:
                while line := file.readline(LINE_BYTES_MAX):
                    size += len(line)
                    if size > RUN_BYTES_MAX or not line.endswith(b"\n"):
                        raise RunFileError(f"{self.path} is no run of a load test: it has a line or a length too great")
                    yield line
        except (OSError, EOFError, zlib.error) as error:
            raise RunFileError(f"{self.path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
