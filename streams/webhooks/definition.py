"""A webhook as it is stored, and the health of its sending.

In: rows of the topics `webhooks` (key: name) and `webhook-health` (key: name/partition). Out: typed rows. A definition
contains the secrets of its signatures: no answer, log or metric shows it whole (decision 0128).
"""

from __future__ import annotations

import base64
import secrets as random_source
from typing import Literal

import msgspec
from msgspec import Struct

from stocktide.streams.contract.documents import encode

# Standard Webhooks takes 24 to 64 bytes.
SECRET_BYTES = 32
# Both secrets sign for so long after a rotation, which is the receiver's time to change over.
ROTATION_MS = 24 * 3_600_000

EventKind = Literal["stock", "orders"]


class Webhook(Struct, frozen=True, kw_only=True):
    """A definition. `epoch` (`TOKEN-NUMBER`) is the generation of its acknowledgements: they count only with the
    same one, so that a replay is a new number. `revision` is new with each PUT: a health row of an older one says
    nothing any more. `orders_since_ms`: since when it takes orders of its channel, 0 if that is
    not known."""

    name: str
    channel: str
    url: str
    skus: tuple[str, ...] | None = None
    prefix: str | None = None
    batch: int
    per_second: float
    events: tuple[EventKind, ...]
    secret: str
    old_secret: str | None = None
    rotated_ms: int = 0
    epoch: str
    revision: str
    # A webhook that a channel's key defined shows orders as that key sees them.
    with_warehouses: bool = True
    orders_since_ms: int = 0

    def __repr__(self) -> str:
        """Without the secrets."""
        return f"Webhook({self.name!r}, revision={self.revision!r})"

    def signing_secrets(self, now_ms: int) -> tuple[str, ...]:
        """The newest first; two while rotating."""
        if self.old_secret is not None and now_ms < self.rotated_ms + ROTATION_MS:
            return self.secret, self.old_secret
        return (self.secret,)

    def takes(self, sku: str) -> bool:
        """Whether the filters let this SKU pass; without filters, every SKU does."""
        if self.skus is None and self.prefix is None:
            return True
        return sku in (self.skus or ()) or (self.prefix is not None and sku.startswith(self.prefix))


class PartitionHealth(Struct, frozen=True, kw_only=True):
    """The sending of one webhook from one partition. Times are ms since 1970, 0 for never. `pending` items wait, since
    `pending_since_ms`; `failures` in a row, since `failing_since_ms`; `error` is that of the last failure."""

    revision: str
    state: Literal["ok", "failing", "disabled"] = "ok"
    last_success_ms: int = 0
    pending: int = 0
    pending_since_ms: int = 0
    failures: int = 0
    failing_since_ms: int = 0
    error: str = ""
    # The circuit breaker makes no call at the moment.
    open: bool = False


decode_webhook = msgspec.json.Decoder(Webhook).decode
decode_health = msgspec.json.Decoder(PartitionHealth).decode


def encode_row(row: Webhook | PartitionHealth) -> bytes:
    """The value of a row."""
    return encode(row)


def new_secret() -> str:
    """A random secret in the form of Standard Webhooks."""
    return "whsec_" + base64.b64encode(random_source.token_bytes(SECRET_BYTES)).decode()


def new_token() -> str:
    """A random epoch or revision."""
    return random_source.token_hex(8)
