"""A row of the tables of error codes."""

from __future__ import annotations

from msgspec import Struct


class ErrorCode(Struct, frozen=True):
    """A code. `statuses`: those with which an answer carries it; none: it is found in lines, dead letters or feeds."""

    code: str
    statuses: tuple[int, ...]
    meaning: str
    remedy: str


# What to do about several of them.
SAME_AGAIN = "Send the same request again after `Retry-After` seconds; it is applied once, however often it is sent."
FIX = "Correct the request; the same one is refused again."
LOOK = "Read the order or the SKU, and decide anew."
