"""The rows of `stock` as documents of the contract.

In: a row as published. Out: what `GET /v1/stock/{sku}` answered as of its batch.
"""

from __future__ import annotations

import msgspec

from stocktide.streams.contract.documents import StockAnswer

# The other fields of a row are skipped.
_DECODER = msgspec.json.Decoder(StockAnswer)


def decode_stock_row(value: bytes) -> StockAnswer | None:
    """The document in a row; None if it cannot be decoded."""
    try:
        return _DECODER.decode(value)
    except msgspec.MsgspecError:
        return None
