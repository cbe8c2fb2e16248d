"""Which SKUs of a channel a client gets: those with given names, and those whose names begin with given prefixes.

In: names and prefixes from a query or a message. Out: a selection, which is immutable and tells whether a kept row
belongs to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cached_property

import msgspec

from stocktide.api.feeds.frames import COMMON, MARK
from stocktide.api.feeds.offset_vector import EPOCH_LENGTH
from stocktide.streams.contract.documents import encode
from stocktide.streams.contract.events import Malformed, Name

# Names and prefixes of one client: a message of so many names has 64 KiB.
SELECTED_MAX = 1_000
# Each prefix is compared with each row.
PREFIXES_MAX = 50

# What follows the name in an update as our writer encodes it. An escaped quote cannot begin it: the second quote here
# would have to be escaped, too.
_AFTER_NAME = b'","quantity":'


class _Named(msgspec.Struct, gc=False):
    sku: str


_decode = msgspec.json.Decoder(_Named).decode


class Selection:
    """Names and prefixes of SKUs; the prefix `""` selects the whole channel."""

    def __init__(self, skus: Iterable[str] = (), prefixes: Iterable[str] = ()) -> None:
        self.skus = frozenset(skus)
        self.prefixes = frozenset(prefixes)
        # As a row begins.
        self._names = frozenset(map(encode, self.skus))
        self._beginnings = tuple(encode(prefix)[:-1] for prefix in sorted(self.prefixes))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selection) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __len__(self) -> int:
        return len(self.skus) + len(self.prefixes)

    @property
    def is_everything(self) -> bool:
        """Whether it is the whole channel."""
        return "" in self.prefixes

    @cached_property
    def key(self) -> str:
        """Identifies the selection; empty for the whole channel."""
        if self.is_everything:
            return ""
        return hashlib.sha256(encode([sorted(self.skus), sorted(self.prefixes)])).hexdigest()

    @property
    def id_tail(self) -> str:
        """The part of an event id that names the selection."""
        return f".{self.key[:EPOCH_LENGTH]}" if self.key else ""

    def has(self, row: bytes) -> bool:
        """Whether a kept row (an update without the channel's name, or a whole one) is selected."""
        name = row[: row.find(_AFTER_NAME) + 1]
        if not name or name.startswith(b"{"):
            try:
                whole = row if row.startswith(b"{") else b'{"sku":' + row.replace(MARK, COMMON, 1)
                name = encode(_decode(whole).sku)
            except (msgspec.DecodeError, UnicodeDecodeError):
                return False
        return name in self._names or name.startswith(self._beginnings)

    def plus(self, other: Selection) -> Selection:
        """The union."""
        return Selection(self.skus | other.skus, self.prefixes | other.prefixes)

    def minus(self, other: Selection) -> Selection:
        """What is left without the names and prefixes of `other`."""
        return Selection(self.skus - other.skus, self.prefixes - other.prefixes)


EVERYTHING = Selection(prefixes=("",))


def check_selection(skus: Iterable[str], prefixes: Iterable[str]) -> Malformed | None:
    """The problem of names or prefixes that no SKU can have; `path` is that of the item in a message."""
    for field, values in (("skus", skus), ("prefixes", prefixes)):
        for index, value in enumerate(values):
            if field == "prefixes" and not value:
                continue
            try:
                msgspec.convert(value, Name)
                valid = value.isprintable()
            except msgspec.ValidationError:
                valid = False
            if not valid:
                detail = "1 to 128 printable characters without white space"
                return Malformed("invalid_field", detail, f"{field}[{index}]")
    return None


def check_size(selection: Selection) -> Malformed | None:
    """The problem of a selection that is too large."""
    if len(selection) > SELECTED_MAX:
        return Malformed("too_many_subscriptions", f"at most {SELECTED_MAX} SKUs and prefixes", None)
    if len(selection.prefixes) > PREFIXES_MAX:
        return Malformed("too_many_subscriptions", f"at most {PREFIXES_MAX} prefixes", None)
    return None
