"""What a policy would do to offers, as `lua/preview.lua` answers it."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

# One Lua call, in which Redis blocks for about 5 ms.
PREVIEW_SKUS_MAX = 500


class OfferPreview(Struct, frozen=True, array_like=True):
    """What a channel may sell of a SKU."""

    mode: str
    quantity: int
    preorder_remaining: int


class PreviewRow(Struct, frozen=True, array_like=True):
    """What a policy would change for a channel and a SKU."""

    sku: str
    channel: str
    before: OfferPreview
    after: OfferPreview


class PreviewPage(Struct, frozen=True, array_like=True):
    """SKUs of a level, also those that would not change. `refusal`: the outcome of a policy that would be refused;
    `last`: the last SKU that was looked at, "" if none follows; `effective`: the policy that would be
    in force."""

    refusal: str
    rows: tuple[PreviewRow, ...]
    last: str
    effective: dict[str, Any]


decode_preview = msgspec.msgpack.Decoder(PreviewPage).decode
