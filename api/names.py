"""Names in paths and queries, checked as names in bodies are.

In: what a caller put into a URL. Out: nothing, or the problem that says which part is no name.
"""

from __future__ import annotations

import msgspec
from aiohttp import web

from stocktide.api import problems
from stocktide.streams.contract.events import Malformed, Name

# The channel of policies that hold over all channels; nobody sells there.
EVERY_CHANNEL = "*"


def check_name(field: str, value: str) -> web.Response | None:
    """The problem where `value` is no name, else None."""
    try:
        msgspec.convert(value, Name)
    except msgspec.ValidationError:
        pass
    else:
        if value.isprintable():
            return None
    detail = "1 to 128 printable characters without white space"
    return problems.from_malformed(Malformed("invalid_field", detail, field))


def check_channel(value: str) -> web.Response | None:
    """The same for a channel that sells: `*` is none."""
    if value == EVERY_CHANNEL:
        detail = "`*` names all channels, and only in policies of a SKU"
        return problems.from_malformed(Malformed("invalid_field", detail, "channel"))
    return check_name("channel", value)
