"""The lines of a text file, plain or packed; an error names the format of any other file.

In: a path and an encoding. Out: its lines, with their ends. A gz is unpacked, and a zip that holds one CSV.
Memory is constant: `LINE_CHARACTERS_MAX`.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from stocktide.errors import StocktideError

# No row of a real copy is as long; the limit protects memory from a file without line ends.
LINE_CHARACTERS_MAX = 1024 * 1024
# Lines, from the first that is not UTF-8 on, that the guess of the encoding uses.
LINES_JUDGED_MAX = 200
MEMBERS_SHOWN_MAX = 5

_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_AS_CSV = "save it as CSV UTF-8"
_NO_TEXT = {
    b"\xd0\xcf\x11\xe0": f"an Excel workbook (xls): {_AS_CSV}",
    b"PAR1": f"a Parquet file: {_AS_CSV}",
    b"BZh": "packed with bzip2: unpack it first",
    b"\xfd7zXZ": "packed with xz: unpack it first",
    b"7z\xbc\xaf": "packed with 7-Zip: unpack it first",
    b"Rar!": "packed with RAR: unpack it first",
    b"\x28\xb5\x2f\xfd": "packed with zstd: unpack it first",
}
_UTF_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_HEAD_BYTES = 8
_ESCAPED = re.compile("[\udc80-\udcff]")
_HIGH_RUN = re.compile(rb"[\x80-\xff]+")


class RetailError(StocktideError):
    """The file cannot be read; the message names file, line and fault."""


def check_encoding(name: str) -> None:
    """Raise RetailError unless Python knows this text encoding."""
    try:
        "".encode(name)
    except (LookupError, UnicodeError):
        raise RetailError(f"--encoding {name!r} is no encoding; some are utf-8, cp1252, gb18030, utf-16") from None


def lines(path: Path, encoding: str) -> Iterator[str]:
    """The lines of a file, one at a time. Raises RetailError."""
    line = 0
    kind = ""
    try:
        with ExitStack() as stack:
            raw = stack.enter_context(path.open("rb"))
            kind = "zip" if raw.peek(len(_ZIP)).startswith(_ZIP) else "gz"
            text = _text(path, raw, encoding, stack)
            while piece := text.readline(LINE_CHARACTERS_MAX):
                line += 1
                if len(piece) == LINE_CHARACTERS_MAX:
                    raise RetailError(f"{path}: line {line} is longer than {LINE_CHARACTERS_MAX:,} characters: no CSV")
                if not piece.isascii() and _ESCAPED.search(piece):
                    raise RetailError(f"{path}: line {line}: {_encoding_fault(piece, text, encoding)}")
                if "\0" in piece:
                    raise RetailError(f"{path}: line {line}: {_zero_byte_fault(piece, line)}")
                yield piece
    except FileNotFoundError:
        raise RetailError(f"{path}: there is no such file") from None
    except EOFError:
        raise RetailError(f"{path}: after line {line}: the {kind} file is cut off") from None
    except (gzip.BadGzipFile, zlib.error, zipfile.BadZipFile) as error:
        raise RetailError(f"{path}: after line {line}: the {kind} file is damaged: {error}") from None
    except UnicodeError as error:
        raise RetailError(f"{path}: after line {line}: the bytes are not {encoding}: {error}") from None
    except OSError as error:
        raise RetailError(f"{path}: cannot be read: {error.strerror or error}") from None


def _text(path: Path, raw: io.BufferedReader, encoding: str, stack: ExitStack) -> IO[str]:
    head = raw.peek(len(_ZIP))
    stream: Any = raw
    if head.startswith(_GZIP):
        stream = stack.enter_context(gzip.GzipFile(fileobj=raw))
    elif head.startswith(_ZIP):
        stream = _member(path, raw, stack)
    buffered = stack.enter_context(io.BufferedReader(stream))
    start = buffered.peek(_HEAD_BYTES)[:_HEAD_BYTES]
    if what := next((what for magic, what in _NO_TEXT.items() if start.startswith(magic)), None):
        raise RetailError(f"{path}: is no CSV but {what}")
    is_utf8 = codecs.lookup(encoding).name == "utf-8"
    if is_utf8 and (mark := next((name for mark, name in _UTF_MARKS.items() if start.startswith(mark)), None)):
        raise RetailError(f"{path}: line 1: the file is {mark.upper()}: {_AS_CSV}, or use --encoding {mark}")
    # utf-8-sig: spreadsheets write a byte order mark. Undecodable bytes are kept, for an error with their line.
    return io.TextIOWrapper(
        buffered, encoding="utf-8-sig" if is_utf8 else encoding, errors="surrogateescape", newline=""
    )


def _member(path: Path, raw: IO[bytes], stack: ExitStack) -> IO[bytes]:
    """The only CSV of a zip."""
    archive = stack.enter_context(zipfile.ZipFile(raw))
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if any(name.startswith("xl/") for name in names):
        raise RetailError(f"{path}: is no CSV but an Excel workbook (xlsx): {_AS_CSV}")
    if names[:1] == ["mimetype"]:
        raise RetailError(f"{path}: is no CSV but an OpenDocument spreadsheet: {_AS_CSV}")
    found = [name for name in names if name.casefold().endswith((".csv", ".tsv"))]
    if len(found) != 1:
        shown = ", ".join(names[:MEMBERS_SHOWN_MAX]) or "nothing"
        more = ", ..." if len(names) > MEMBERS_SHOWN_MAX else ""
        sheets = [name for name in names if name.casefold().endswith((".xlsx", ".xls"))]
        advice = f"{sheets[0]} is an Excel workbook: {_AS_CSV}" if sheets else "unpack it and name the CSV"
        raise RetailError(f"{path}: the zip holds {len(found) or 'no'} CSV files ({shown}{more}): {advice}")
    try:
        return stack.enter_context(archive.open(found[0]))
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or an unknown compression
        raise RetailError(f"{path}: the zip cannot be unpacked: {error}") from None


def _encoding_fault(piece: str, rest: IO[str], encoding: str) -> str:
    """A guess of the encoding, from a line with undecodable bytes and the lines after it."""
    if codecs.lookup(encoding).name != "utf-8":
        return f"the bytes are not {encoding}"
    raw = [_bytes(piece)]
    while len(raw) < LINES_JUDGED_MAX and (more := rest.readline(LINE_CHARACTERS_MAX)):
        raw.append(_bytes(more))
    together = b"".join(raw)
    if _is_gbk(together):
        return f"the text is not UTF-8 but looks like GBK (GB18030): {_AS_CSV}, or use --encoding gb18030"
    try:
        together.decode("cp1252")
    except UnicodeDecodeError:
        return f"the text is not UTF-8: {_AS_CSV}, or name what it is with --encoding"
    return f"the text is not UTF-8 but looks like Windows-1252 (Latin-1): {_AS_CSV}, or use --encoding cp1252"


def _bytes(piece: str) -> bytes:
    return piece.encode("utf-8", "surrogateescape")


def _is_gbk(raw: bytes) -> bool:
    """Whether it decodes as GB18030 and most high bytes are in runs: those of accented letters are alone."""
    try:
        raw.decode("gb18030")
    except UnicodeDecodeError:
        return False
    runs = [len(run) for run in _HIGH_RUN.findall(raw)]
    return sum(run for run in runs if run > 1) > sum(runs) / 2


def _zero_byte_fault(piece: str, line: int) -> str:
    """The fault of a line with zero bytes: UTF-16 without a mark has one beside each letter."""
    if line == 1 and piece.count("\0") * 3 > len(piece):
        name = "utf-16-be" if piece.startswith("\0") else "utf-16-le"
        return f"the file is UTF-16 without a byte order mark: {_AS_CSV}, or use --encoding {name}"
    return "it has a zero byte: the file is damaged"
