"""Renders dead letters on the console: a table of them, or one with its bytes.

In: dead letters. Out: lines. Their text comes from outside, so only printable characters reach the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from stocktide.streams.kafka.record_origin import RecordPlace
from stocktide.tables.dead_letters.reader import DeadLetterSummary, StoredDeadLetter
from stocktide.text_wrapping import terminal_width, wrapped

# `--raw` gives all bytes.
_SHOWN_BYTES = 4_096
_HEX_COLUMNS = 16

FormatPlace = Callable[[RecordPlace], str]


def render_dead_letters(
    console: Console, letters: Sequence[DeadLetterSummary], short: FormatPlace, with_state: bool
) -> None:
    """Two lines for each: place and reason. On a narrow terminal the key has its own line."""
    rows = [
        (
            f"{letter.at[:10]} {letter.at[11:19]}",
            escape_unprintable(letter.reason),
            short(letter.origin),
            *([letter.state] if with_state else []),
            escape_unprintable((letter.key or b"").decode(errors="replace")),
        )
        for letter in letters
    ]
    head = ("when (UTC)", "reason", "event", *(["state"] if with_state else []), "key")
    widths = [max(cell_len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(set_cell_size(cell, width) for cell, width in zip(cells, widths, strict=False)).rstrip()

    apart = console.is_terminal and sum(widths) + 2 * len(widths) - 2 > console.width
    console.print(Text(line(head[:-1] if apart else head), "underline"), soft_wrap=True)
    for letter, row in zip(letters, rows, strict=True):
        console.print(Text(line(row[:-1] if apart else row)), soft_wrap=True)
        if apart and row[-1]:
            console.print(Padding(Text(f"key {row[-1]}"), (0, 0, 0, 4), expand=False))
        console.print(Padding(Text(_why(letter) or "no more is known", "dim"), (0, 0, 0, 4), expand=False))


def _why(letter: DeadLetterSummary) -> str:
    return escape_unprintable(f"{letter.path}: {letter.detail}" if letter.path else letter.detail)


def render_dead_letter(letter: DeadLetterSummary, stored: StoredDeadLetter, short: FormatPlace) -> None:
    """All fields of one, and the beginning of its event."""
    event = stored.row.event
    facts = {
        "reason": letter.reason,
        "why": _why(letter),
        "refused at": letter.at,
        "event": short(letter.origin),
        "letter": short(letter.place),
        "key": (letter.key or b"").decode(errors="replace"),
        "state": letter.state if letter.state == "open" else f"{letter.state} by {letter.by} at {letter.done_at}",
        "bytes": f"{letter.size}, of which the first {len(event)} are kept" if letter.is_cut else str(letter.size),
    }
    for name, value in facts.items():
        for line in wrapped(f"{name:<11} {escape_unprintable(value)}", terminal_width(), indent=12):
            click.echo(line)
    click.echo()
    for line in format_bytes(event[:_SHOWN_BYTES]):
        click.echo(line)
    if len(event) > _SHOWN_BYTES:
        click.echo(f"… {len(event) - _SHOWN_BYTES} more bytes: --raw gives all")


def format_bytes(event: bytes) -> list[str]:
    """Bytes for a terminal: printable text unchanged, anything else as hex with its characters."""
    try:
        text = event.decode()
    except UnicodeDecodeError as error:
        # A cut event may end within a character.
        text = (
            event[: error.start].decode() if error.start > len(event) - 4 and error.reason.startswith("unexp") else ""
        )
    if text and all(line.isprintable() for line in text.splitlines()):
        return text.splitlines()
    lines = []
    for start in range(0, len(event), _HEX_COLUMNS):
        part = event[start : start + _HEX_COLUMNS]
        printed = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<{3 * _HEX_COLUMNS}} {printed}")
    return lines


def escape_unprintable(text: str) -> str:
    """The text with control characters escaped."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
