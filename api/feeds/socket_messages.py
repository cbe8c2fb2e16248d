"""The messages of a client on a WebSocket, and the answers to them.

In: the text of a message. Out: a typed message, the document of a rejection, or `BadMessage` for what is none.

    {"type":"subscribe","id":1,"skus":["85123A"],"prefixes":["851"],"last_event_id":null}
    {"type":"unsubscribe","id":2,"skus":["85123A"]}

`id` is the client's, and comes back in the answer. `subscribe` without names is the whole channel. `last_event_id` is
taken in a client's first message only.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from stocktide.api.feeds.close_codes import CloseCode, FeedEnded
from stocktide.api.feeds.selection import Selection, check_selection
from stocktide.streams.contract.documents import _Document
from stocktide.streams.contract.events import Malformed, decode_with


class ClientMessage(Struct, frozen=True, tag_field="type"):
    """What all messages have."""

    id: int | str | None = None
    skus: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()

    @property
    def selection(self) -> Selection:
        """What it names."""
        return Selection(self.skus, self.prefixes)


class Subscribe(ClientMessage, frozen=True, tag="subscribe"):
    """Get these SKUs, and those with these prefixes, too: their newest updates, `synced`, and every change."""

    last_event_id: str | None = None

    @property
    def selection(self) -> Selection:
        """What it names; everything if it names nothing."""
        return Selection(self.skus, self.prefixes) if self.skus or self.prefixes else Selection(prefixes=("",))


class Unsubscribe(ClientMessage, frozen=True, tag="unsubscribe"):
    """Get these names and prefixes no more, each of which was subscribed just so; without names, get nothing."""


class Subscribed(_Document, frozen=True):
    """The answer to `subscribe` and `unsubscribe`: how many names and prefixes are subscribed now."""

    id: int | str | None
    channel: str
    skus: int
    prefixes: int


class Rejected(_Document, frozen=True):
    """The answer to a message that changed nothing. `path` is that of the field, if one is wrong."""

    id: int | str | None
    code: str
    detail: str
    path: str | None


class _Head(Struct):
    type: str
    id: Any = None


_TYPES = ("subscribe", "unsubscribe")
_decoder = msgspec.json.Decoder(Subscribe | Unsubscribe)
_decode_head = msgspec.json.Decoder(_Head).decode


def read_message(text: str | bytes) -> Subscribe | Unsubscribe | Rejected:
    """A message, or its rejection. Raises FeedEnded for what is no message: not JSON, or of an unknown type."""
    data = text.encode() if isinstance(text, str) else text
    try:
        head = _decode_head(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FeedEnded(CloseCode.BAD_MESSAGE, f"a message is a JSON object with a `type`: {error}") from error
    if head.type not in _TYPES:
        raise FeedEnded(CloseCode.BAD_MESSAGE, f"`type` is one of {', '.join(_TYPES)}")
    message: Subscribe | Unsubscribe | Malformed = decode_with(_decoder, data)
    identity = head.id if type(head.id) in (int, str) else None
    wrong = message if isinstance(message, Malformed) else check_selection(message.skus, message.prefixes)
    if wrong is not None:
        return reject(identity, wrong.code, wrong.detail, wrong.path)
    assert not isinstance(message, Malformed)
    return message


def reject(identity: int | str | None, code: str, detail: str, path: str | None = None) -> Rejected:
    """A rejection."""
    return Rejected(identity, code, detail, path)
