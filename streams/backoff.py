"""The pauses between attempts.

In: the first pause and the longest one. Out: pauses in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator


def doubling_pauses(first: float, most: float) -> Iterator[float]:
    """Pauses (s), each twice the one before, and never longer than `most`."""
    while True:
        yield first
        first = min(2 * first, most)
