"""The key that a client of the API sends.

In: a key, or the variable `STOCKTIDE_KEY`, which processes of a load test inherit. Out: the header.
"""

from __future__ import annotations

import os

KEY_VARIABLE = "STOCKTIDE_KEY"


def key_headers(key: str | None = None) -> dict[str, str]:
    """The header `Authorization`; none where there is no key, as with `--open`."""
    given = os.environ.get(KEY_VARIABLE, "") if key is None else key
    return {"Authorization": f"Bearer {given}"} if given else {}
