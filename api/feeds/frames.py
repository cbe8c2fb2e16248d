"""The frames of the feeds' transports: Server-Sent Events, and WebSocket messages.

In: an event, its data and its id. Out: the bytes on the connection, which are the same for all clients of a transport:
a server does not mask its WebSocket frames, and what is deflated refers to nothing that was written before.
"""

from __future__ import annotations

import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

# A part of nearly every update, and the byte that is kept for it, which JSON has nowhere.
COMMON, MARK = b'","preorder_remaining":0,"version":', b"\x01"

# FIN and the opcode of text, close, ping and pong (RFC 6455, section 5.2); with RSV1 text is deflated (RFC 7692).
_TEXT, _CLOSE, _PING, _PONG, _DEFLATED = b"\x81", b"\x88", b"\x89", b"\x8a", b"\xc1"
# A control frame carries so many bytes at most, of which a close frame's code takes two.
CONTROL_BYTES_MAX = 125

# Measured by `bench.socket_deflate`: one message alone shrinks by a fifth, which does not pay; two that are written
# together shrink by half, twenty to a fifth.
DEFLATED_FROM = 2
# 4 KiB are twenty messages. A larger window gains 6 %, and common clients allow no more than this.
WINDOW_BITS = 12
_LEVEL, _MEMORY_LEVEL = 6, 5
# What a message ends with after `Z_SYNC_FLUSH`, and what is not sent.
_FLUSHED = b"\x00\x00\xff\xff"


class FrameFormat(ABC):
    """Encodes the frames of one transport."""

    heartbeat: bytes

    @abstractmethod
    def event(self, name: str, data: bytes, frame_id: str | None = None) -> bytes:
        """One event; `data` is JSON without line breaks."""

    @abstractmethod
    def stock(self, head: bytes, row: bytes, frame_id: str | None) -> bytes:
        """One update, whose JSON is `head` and `row` with COMMON for MARK; to be passed to `join`."""

    def join(self, updates: Sequence[bytes]) -> bytes:
        """The bytes of updates that are written together."""
        return b"".join(updates)


class ServerSentEvents(FrameFormat):
    """`id: …`, `event: …`, `data: …` and an empty line."""

    heartbeat = b": heartbeat\n\n"

    def event(self, name: str, data: bytes, frame_id: str | None = None) -> bytes:
        """See `FrameFormat`."""
        head = b"" if frame_id is None else b"id: %b\n" % frame_id.encode()
        return b"%bevent: %b\ndata: %b\n\n" % (head, name.encode(), data)

    def stock(self, head: bytes, row: bytes, frame_id: str | None) -> bytes:
        """See `FrameFormat`."""
        row = row.replace(MARK, COMMON, 1)
        if frame_id is None:
            return b"event: stock\ndata: %b%b\n\n" % (head, row)
        return b"id: %b\nevent: stock\ndata: %b%b\n\n" % (frame_id.encode(), head, row)


class WebSocketText(FrameFormat):
    """One text message per event: `{"event":…,"id":…,"data":…}`, without `id` where there is none."""

    heartbeat = _PING + b"\x00"

    def event(self, name: str, data: bytes, frame_id: str | None = None) -> bytes:
        """See `FrameFormat`."""
        identity = b"" if frame_id is None else b',"id":"%b"' % frame_id.encode()
        return _frame(_TEXT, b'{"event":"%b"%b,"data":%b}' % (name.encode(), identity, data))

    def stock(self, head: bytes, row: bytes, frame_id: str | None) -> bytes:
        """See `FrameFormat`."""
        return _frame(_TEXT, _stock_message(head, row, frame_id))

    def pong(self, payload: bytes) -> bytes:
        """The answer to a ping."""
        return _frame(_PONG, payload[:CONTROL_BYTES_MAX])

    def close(self, code: int, reason: str) -> bytes:
        """A close frame."""
        return _frame(_CLOSE, code.to_bytes(2, "big") + close_reason(reason))


class DeflatedText(WebSocketText):
    """The same for clients that have agreed to per-message deflate.

    Updates that are written together are deflated together, with a window that begins empty: so the bytes are made once
    for all clients, and no socket has a state. All else is sent as it is, which RFC 7692 allows for any message.
    """

    def stock(self, head: bytes, row: bytes, frame_id: str | None) -> bytes:
        """See `FrameFormat`."""
        return _stock_message(head, row, frame_id)

    def join(self, updates: Sequence[bytes]) -> bytes:
        """See `FrameFormat`."""
        if len(updates) < DEFLATED_FROM:
            return b"".join(_frame(_TEXT, update) for update in updates)
        deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -WINDOW_BITS, _MEMORY_LEVEL)
        return b"".join(
            _frame(_DEFLATED, (deflate.compress(update) + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_FLUSHED))
            for update in updates
        )


# Parameters with which the server may keep its window from message to message, of at least WINDOW_BITS.
_OFFER = re.compile(
    r"permessage-deflate"
    r"(\s*;\s*(client_no_context_takeover|client_max_window_bits(=\d+)?|server_max_window_bits=1[2-5]))*"
)


def may_deflate(extensions: str) -> bool:
    """Whether each offer of `Sec-WebSocket-Extensions`, of which aiohttp takes one, allows what DeflatedText does."""
    return all(_OFFER.fullmatch(offer.strip()) for offer in extensions.split(","))


def close_reason(text: str) -> bytes:
    """A reason of at most so many bytes as a close frame takes, whole characters only."""
    return text.encode()[: CONTROL_BYTES_MAX - 2].decode(errors="ignore").encode()


def _stock_message(head: bytes, row: bytes, frame_id: str | None) -> bytes:
    row = row.replace(MARK, COMMON, 1)
    if frame_id is None:
        return b'{"event":"stock","data":%b%b}' % (head, row)
    return b'{"event":"stock","id":"%b","data":%b%b}' % (frame_id.encode(), head, row)


def _frame(opcode: bytes, payload: bytes) -> bytes:
    length = len(payload)
    if length <= CONTROL_BYTES_MAX:
        return b"%b%c%b" % (opcode, length, payload)
    if length < 1 << 16:
        return b"%b\x7e%b%b" % (opcode, length.to_bytes(2, "big"), payload)
    return b"%b\x7f%b%b" % (opcode, length.to_bytes(8, "big"), payload)


SSE, WEBSOCKET, DEFLATED_WEBSOCKET = ServerSentEvents(), WebSocketText(), DeflatedText()
