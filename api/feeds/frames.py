"""The frames of the feeds' transports: Server-Sent Events, and WebSocket messages.

In: an event, its data and its id. Out: the bytes on the connection, which are the same for all clients of a transport:
a server does not mask its WebSocket frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

# A part of nearly every update, and the byte that is kept for it, which JSON has nowhere.
COMMON, MARK = b'","preorder_remaining":0,"version":', b"\x01"

# FIN and the opcode of text, close, ping and pong (RFC 6455, section 5.2).
_TEXT, _CLOSE, _PING, _PONG = b"\x81", b"\x88", b"\x89", b"\x8a"
# A control frame carries so many bytes at most, of which a close frame's code takes two.
CONTROL_BYTES_MAX = 125


class FrameFormat(ABC):
    """Encodes the frames of one transport."""

    heartbeat: bytes

    @abstractmethod
    def event(self, name: str, data: bytes, frame_id: str | None = None) -> bytes:
        """One event; `data` is JSON without line breaks."""

    @abstractmethod
    def stock(self, head: bytes, row: bytes, frame_id: str | None) -> bytes:
        """One update, whose JSON is `head` and `row` with COMMON for MARK."""


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
        row = row.replace(MARK, COMMON, 1)
        if frame_id is None:
            return _frame(_TEXT, b'{"event":"stock","data":%b%b}' % (head, row))
        return _frame(_TEXT, b'{"event":"stock","id":"%b","data":%b%b}' % (frame_id.encode(), head, row))

    def pong(self, payload: bytes) -> bytes:
        """The answer to a ping."""
        return _frame(_PONG, payload[:CONTROL_BYTES_MAX])

    def close(self, code: int, reason: str) -> bytes:
        """A close frame."""
        return _frame(_CLOSE, code.to_bytes(2, "big") + close_reason(reason))


def close_reason(text: str) -> bytes:
    """A reason of at most so many bytes as a close frame takes, whole characters only."""
    return text.encode()[: CONTROL_BYTES_MAX - 2].decode(errors="ignore").encode()


def _frame(opcode: bytes, payload: bytes) -> bytes:
    length = len(payload)
    if length <= CONTROL_BYTES_MAX:
        return b"%b%c%b" % (opcode, length, payload)
    if length < 1 << 16:
        return b"%b\x7e%b%b" % (opcode, length.to_bytes(2, "big"), payload)
    return b"%b\x7f%b%b" % (opcode, length.to_bytes(8, "big"), payload)


SSE, WEBSOCKET = ServerSentEvents(), WebSocketText()
